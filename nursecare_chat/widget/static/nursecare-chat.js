/** The chat's client library: an ES module without dependencies. */
export { ChatClient } from "./client.js";
export { Conversation } from "./conversation.js";
export { NurseCareConnector } from "./echo.js";
export { ChatError } from "./errors.js";
export { Inbox } from "./inbox.js";
