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
    /// The bodies of events that are no messages, by their type. Clients that know polls and calls by the names of the
    /// proposals send those.
    public var kinds = [
        "m.sticker": "sent a sticker",
        "m.poll.start": "started a poll",
        "m.poll.response": "voted in a poll",
        "m.poll.end": "ended a poll",
        "org.matrix.msc3381.poll.start": "started a poll",
        "org.matrix.msc3381.poll.response": "voted in a poll",
        "org.matrix.msc3381.poll.end": "ended a poll",
        "m.call.invite": "is calling",
        "m.rtc.notification": "is calling",
        "org.matrix.msc4075.rtc.notification": "is calling",
    ]
    /// The body of a reaction, before its emoji.
    public var reacted = "reacted with"
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

    /// What a message's event says; nothing where it has no words.
    private func body(_ message: DecryptedMessage) -> String? {
        guard let event = try? JSONDecoder().decode(Content.self, from: Data(message.content.utf8)) else { return nil }
        let body: String?
        switch message.eventType {
        case "m.room.message":
            // An edit says what is new, and the body beside that is for clients that know no edits.
            let content = event.edited ?? event
            body = content.msgtype.flatMap { attachments[$0] } ?? content.body
        case "m.reaction":
            body = event.relation?.key.flatMap { $0.isEmpty ? nil : "\(reacted) \($0)" }
        default:
            body = kinds[message.eventType]
        }
        guard let body, !body.isEmpty else { return nil }
        return String(body.prefix(longest))
    }
}

/// What of an event's content has words.
private final class Content: Decodable {
    let msgtype: String?
    let body: String?
    let edited: Content?
    let relation: Relation?

    enum CodingKeys: String, CodingKey {
        case msgtype, body
        case edited = "m.new_content"
        case relation = "m.relates_to"
    }
}

private struct Relation: Decodable {
    let key: String?
}
