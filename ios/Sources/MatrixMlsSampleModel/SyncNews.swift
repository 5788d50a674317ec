/// What the screens need of a sync response. The engine reads the same text on its own; this looks only at which
/// rooms there are, what they are called, and in what order things were said.

import Foundation

/// A response of a sliding sync connection.
struct SyncNews: Decodable, Sendable {
    struct Room: Decodable, Sendable {
        let name: String?
        let required_state: [Event]?
        let timeline: [Event]?
        let limited: Bool?
        let invite_state: [Event]?
        let joined_count: Int?
    }

    struct List: Decodable, Sendable {
        let count: Int
    }

    struct Extensions: Decodable, Sendable {
        struct ToDevice: Decodable, Sendable {
            let next_batch: String
        }

        let to_device: ToDevice?
    }

    /// Where the connection goes on.
    let pos: String
    let lists: [String: List]?
    let rooms: [String: Room]?
    let extensions: Extensions?

    init(_ response: String) throws {
        do {
            self = try JSONDecoder().decode(Self.self, from: Data(response.utf8))
        } catch {
            throw HomeserverError.malformed("it is no sync response")
        }
    }
}

/// An event, as far as the screens look at it. A field of the wrong type is a field that is not there: what other
/// people's clients send must not stop the sync.
struct Event: Decodable, Sendable {
    let eventId: String?
    let type: String
    let sender: String
    let roomName: String?
    /// Whose membership it changes, and to what.
    let membership: (userId: String, is: String)?
    private let isCommit: Bool

    /// Whether a person wrote it: commits travel as encrypted events too, and say which ones they resolve.
    var isEncryptedMessage: Bool { type == "m.room.encrypted" && !isCommit }

    private enum Field: String, CodingKey {
        case event_id, type, sender, state_key, content, name, membership, resolves
    }

    init(from decoder: any Decoder) throws {
        let event = try decoder.container(keyedBy: Field.self)
        eventId = try? event.decode(String.self, forKey: .event_id)
        type = (try? event.decode(String.self, forKey: .type)) ?? ""
        sender = (try? event.decode(String.self, forKey: .sender)) ?? ""
        let content = try? event.nestedContainer(keyedBy: Field.self, forKey: .content)
        let name = type == "m.room.name" ? try? content?.decode(String.self, forKey: .name) : nil
        roomName = name.flatMap { $0.isEmpty ? nil : $0 }
        let membership = try? content?.decode(String.self, forKey: .membership)
        let userId = try? event.decode(String.self, forKey: .state_key)
        if type == "m.room.member", let userId, let membership {
            self.membership = (userId, membership)
        } else {
            self.membership = nil
        }
        isCommit = content?.contains(.resolves) ?? false
    }

    /// Reads an event; nil when it is none.
    init?(json: String) {
        guard let event = try? JSONDecoder().decode(Self.self, from: Data(json.utf8)) else { return nil }
        self = event
    }
}
