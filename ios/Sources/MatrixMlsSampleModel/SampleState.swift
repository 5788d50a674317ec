/// Everything the screens show, as one value: a view draws it, a test compares it.

import Foundation
import MatrixMls

/// What the app shows.
public struct SampleState: Sendable, Equatable {
    /// Where the app is between starting and talking.
    public enum Phase: Sendable, Equatable {
        /// It has not looked yet whether somebody is logged in.
        case starting
        /// Nobody is.
        case loggedOut
        /// It is logging in.
        case loggingIn
        /// A device is logged in and its store is open.
        case running
    }

    /// Whether the homeserver was reached last time.
    public enum Connection: Sendable, Equatable {
        /// It has not been tried yet, or the app is suspended.
        case idle
        /// It was.
        case online
        /// It was not, and why. The app goes on trying.
        case offline(String)
    }

    /// Where the app is.
    public internal(set) var phase = Phase.starting
    /// Whether the homeserver can be reached.
    public internal(set) var connection = Connection.idle
    /// Who is logged in.
    public internal(set) var userId: String?
    /// As which device.
    public internal(set) var deviceId: String?
    /// The rooms, by name.
    public internal(set) var rooms: [RoomRow] = []
    /// What was said in the rooms that were looked at, by room.
    public internal(set) var timelines: [String: [TimelineRow]] = [:]
    /// How the user's own identity stands.
    public internal(set) var identity: IdentityState?
    /// How the user's recovery key stands.
    public internal(set) var recovery: Recovery?
    /// A recovery key that was just made, until the user has written it down.
    public internal(set) var newRecoveryKey: String?
    /// How far earlier messages are restored, as a sentence, while they are.
    public internal(set) var restoring: String?
    /// Who has another identity than before, and is to be warned of.
    public internal(set) var changedIdentities: [ChangedIdentity] = []
    /// With whom emojis are compared.
    public internal(set) var comparison: Comparison?
    /// What went wrong with what the user did last, as a sentence.
    public internal(set) var problem: String?

    /// Nothing yet.
    public init() {}
}

/// A line of the room list.
public struct RoomRow: Sendable, Equatable, Codable, Identifiable {
    /// The Matrix room id.
    public let id: String
    /// What the room is called; its id when it has no name.
    public internal(set) var name: String
    /// Whether the user has been invited and not yet joined.
    public internal(set) var isInvitation: Bool
    /// Whether the room says that it uses MLS.
    public internal(set) var usesMls: Bool
    /// The users who have joined, as far as the syncs named them. What the engine works with is its own.
    public internal(set) var joined: Set<String> = []
    /// How many have joined.
    public internal(set) var joinedCount: Int?
}

/// A message of a timeline.
public struct TimelineRow: Sendable, Equatable, Identifiable {
    /// What a message shows.
    public enum Content: Sendable, Equatable {
        /// What was written.
        case text(String)
        /// It cannot be read, or not yet: why, as a sentence.
        case unreadable(String)
    }

    /// The Matrix event id.
    public let id: String
    /// Who sent it.
    public let sender: String
    /// From which device, where the message was opened.
    public let senderDevice: String?
    /// What it says.
    public let content: Content
    /// Its shield, if it has one.
    public let shield: RowShield?

    /// A message that was opened.
    init(id: String, _ message: DecryptedMessage) {
        struct Body: Decodable { let body: String }
        let body = try? JSONDecoder().decode(Body.self, from: Data(message.content.utf8)).body
        self.id = id
        sender = message.senderUserId
        senderDevice = message.senderDeviceId
        content = .text(body ?? message.eventType)
        shield = RowShield(message.verdict)
    }

    /// A message that was not. Nil for what says nothing to people.
    init?(id: String, sender: String, _ error: MlsError) {
        guard let why = whyUnreadable(error) else { return nil }
        self.id = id
        self.sender = sender
        senderDevice = nil
        content = .unreadable(why)
        shield = nil
    }

    /// Whether it was opened.
    public var isReadable: Bool {
        if case .text = content { return true }
        return false
    }
}

/// Why an event cannot be read, as a sentence.
func whyUnreadable(_ error: MlsError) -> String? {
    switch error.unreadableCause() {
    case .beforeJoining: return "You don't have access to messages sent before you joined."
    case .notYetHere: return "Waiting for this message."
    case .lost: return "This message could not be decrypted."
    case .damaged: return "This message is damaged."
    case .forged: return "This message was not sent by this person."
    case .deleted: return "This message is no longer kept."
    case .redacted: return "Deleted."
    case .otherEncryption: return "This message is not encrypted with MLS."
    case .commit: return nil
    case nil: return "This message cannot be read (\(error.code))."
    }
}

extension [TimelineRow] {
    /// Puts a row where it belongs: in the place of the same event, or at the end. What was read stays read.
    mutating func upsert(_ row: TimelineRow) {
        guard let index = firstIndex(where: { $0.id == row.id }) else { return append(row) }
        if row.isReadable || !self[index].isReadable { self[index] = row }
    }
}
