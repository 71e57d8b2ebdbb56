/**
 * Types of `convstore.js`. Nothing of this is there at run time.
 *
 * @module types
 */

/**
 * @typedef {object} Problem An error.
 * @property {number} status Status of HTTP. 0: no answer.
 * @property {string} type The word behind `urn:convstore:`, or `unreachable`, `aborted`, `queue-full`, `http-<status>`.
 * @property {string} detail A sentence for people.
 * @property {boolean | null} written Whether something was written. null: nobody knows.
 * @property {number} retryAfter Seconds after which another attempt makes sense. 0: unknown.
 * @property {Record<string, any>} [errors] What is wrong with which part of the input.
 */
/**
 * @template T
 * @typedef {{value: T, error: null} | {value: null, error: Problem}} Result
 */
/** @typedef {{signal?: AbortSignal}} Options `signal` ends the waiting. What was begun goes on. */
/**
 * @typedef {object} Message A message as the server shows it, or as it will be.
 * @property {string} id
 * @property {number} [seq]
 * @property {string} role
 * @property {any} content
 * @property {string} [created_at]
 * @property {string} [edited_at]
 * @property {string} [status] The server's (`stopped`, `interrupted`, `redacted`, …), or `waiting` (for a connection),
 *   `sending`, `failed` (with `error` and `key`), `streaming`.
 * @property {Record<string, any>} [metadata]
 * @property {{kind: string, content: any, at: number}[]} [parts]
 * @property {Problem} [error]
 * @property {string} [key] Key of the action that has failed: see `retry` and `discard`.
 */
/**
 * @typedef {object} Summary A session in the list.
 * @property {string} session_id
 * @property {string | null} title
 * @property {string} updated_at
 * @property {string} [created_at]
 * @property {string} [expires_at]
 * @property {number} [version]
 * @property {number} [message_count]
 * @property {string} [moved_to] Where a compacted conversation goes on.
 * @property {boolean} [pending] Not on the server yet.
 */
/** @typedef {"create" | "send" | "edit" | "redact" | "rename" | "remove"} Kind */
/**
 * @typedef {object} Action What a person did, until the server has answered.
 * @property {string} key Its idempotency key. Of a message also the id.
 * @property {number} at Milliseconds, growing: the order of what was done.
 * @property {Kind} kind
 * @property {string} session_id
 * @property {any} [content]
 * @property {Record<string, any>} [metadata]
 * @property {string} [target] Id of the message that is edited, redacted or replaced.
 * @property {boolean} [again] The same content is sent again, for another reply.
 * @property {string} [title]
 * @property {Record<string, any>} [data]
 * @property {Problem} [error] Why it was given up.
 */
/** @typedef {Summary & {data?: Record<string, any>, moved_to?: string, history: Message[]}} Session */
/** @typedef {{session_id: string, turn: string, text: string, parts: any[], message?: Message, reply?: Message, version: number, error?: Problem, status: string, lastId: string, isCut: boolean}} Reply */
/** @typedef {{name: string, id: string, data: any}} ServerEvent */
/** @typedef {{get(key: string): Promise<any>, all(prefix: string): Promise<[string, any][]>, put(key: string, value: any): Promise<void>, delete(key: string): Promise<void>, close(): void}} Store */

export {};
