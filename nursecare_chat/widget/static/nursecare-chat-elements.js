/** Registers `<nursecare-chat>` and `<nursecare-chat-inbox>`. */
import { NurseCareChat } from "./chat-element.js";
import { NurseCareChatInbox } from "./inbox-element.js";

export { NurseCareChat, NurseCareChatInbox };

if (!customElements.get("nursecare-chat")) {
  customElements.define("nursecare-chat", NurseCareChat);
  customElements.define("nursecare-chat-inbox", NurseCareChatInbox);
}
