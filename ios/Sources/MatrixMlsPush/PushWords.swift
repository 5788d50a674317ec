/// The words of notifications, in one place so that an app can say them in its user's language.

import Foundation
import MatrixMls

/// What notifications say.
public struct PushWords: Sendable {
    /// The title when nothing better is known.
    public var appName = "New message"
    /// The body when the message cannot be read here.
    public var unreadable = "You have a new message"
    /// The bodies of messages that are no text, by their `msgtype`.
    public var attachments = [
        "m.image": "sent a picture",
        "m.video": "sent a video",
        "m.audio": "sent a recording",
        "m.file": "sent a file",
        "m.location": "sent a place",
    ]
    /// How many characters of a message are shown; the system cuts long ones off anyway.
    public var longest = 500

    /// English words.
    public init() {}

    /// What to show for a push whose event cannot be read.
    public func generic(_ push: Push, because obstacle: PushObstacle) -> PushNotice {
        .generic(PushText(title: title(push, sender: nil), body: unreadable), because: obstacle)
    }

    /// What to show for a push without a room.
    public func generic(because obstacle: PushObstacle) -> PushNotice {
        .generic(PushText(title: appName, body: unreadable), because: obstacle)
    }

    /// What to show for a message. One of a sender whose keys conflict is not shown: somebody is lying.
    func notice(_ push: Push, _ message: DecryptedMessage) -> PushNotice {
        if message.verdict == .conflicting { return generic(push, because: .senderConflicts) }
        guard let body = body(message) else {
            return generic(push, because: .unexpected("the type \(message.eventType)"))
        }
        return .message(PushText(title: title(push, sender: message.senderUserId), body: body))
    }

    /// Names are the homeserver's word. The sender's id is not: it is the one that sealed the message, so it stands
    /// in where there is no name.
    private func title(_ push: Push, sender: String?) -> String {
        let who = push.senderName ?? sender
        switch (who, push.roomName) {
        case (let who?, let room?) where who != room: return "\(who) in \(room)"
        case (let name?, _), (nil, let name?): return name
        case (nil, nil): return appName
        }
    }

    private func body(_ message: DecryptedMessage) -> String? {
        struct Content: Decodable {
            let msgtype: String?
            let body: String?
        }
        guard
            message.eventType == "m.room.message",
            let content = try? JSONDecoder().decode(Content.self, from: Data(message.content.utf8))
        else { return nil }
        if let attachment = content.msgtype.flatMap({ attachments[$0] }) { return attachment }
        guard let body = content.body, !body.isEmpty else { return nil }
        return String(body.prefix(longest))
    }
}
