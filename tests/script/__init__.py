"""The browser's half, ``flask_convstore/static/convstore.js``, in Node against real servers."""
