/*
 * Makes the search work on pages that are opened from the disk.
 *
 * The theme searches in a Worker, and a browser starts no Worker from file://. This class takes its place there: it runs the
 * same script in a hidden frame. It does nothing on pages that come from a server. The plugin "offline" of the theme looks
 * for this file's name among the polyfills, and otherwise fetches one from another host.
 */
if (location.protocol === "file:") {
  window.Worker = class IFrameWorker extends EventTarget {
    constructor(url) {
      super()
      this.waiting = []
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.body.append(this.frame)

      const inside = this.frame.contentWindow
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }))
      const script = this.frame.contentDocument.createElement("script")
      script.src = new URL(url, location.href)
      script.onload = () => {
        this.ready = true
        this.waiting.splice(0).forEach((data) => this.postMessage(data))
      }
      script.onerror = () => this.dispatchEvent(new Event("error"))
      this.frame.contentDocument.body.append(script)
    }

    postMessage(data) {
      if (this.ready) {
        this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }))
      } else {
        this.waiting.push(data)
      }
    }

    terminate() {
      this.frame.remove()
    }
  }
}
