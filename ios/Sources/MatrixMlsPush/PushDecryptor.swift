/// From an encrypted event to what a notification says. It decides nothing but words: the reader decrypts, the
/// extension shows. Whatever goes wrong, there is something to show, and never a part of what could not be verified.

import Foundation
import MatrixMls

/// What to do with one push.
public enum PushNotice: Sendable, Equatable {
    /// Show what was inside.
    case message(PushText)
    /// Show that there is something, and no more: it could not be read here.
    case generic(PushText, because: PushObstacle)
    /// Show nothing: the event changes the room's group and says nothing to a person.
    case nothing

    /// What to show, if anything.
    public var text: PushText? {
        switch self {
        case .message(let text), .generic(let text, _): return text
        case .nothing: return nil
        }
    }
}

/// A notification's words.
public struct PushText: Sendable, Equatable {
    /// The upper line: who, and where.
    public var title: String
    /// The lower lines.
    public var body: String

    /// A notification's words.
    public init(title: String, body: String) {
        self.title = title
        self.body = body
    }
}

/// Why a push shows the generic text, for a log. It holds nothing of the message.
public enum PushObstacle: Sendable, Equatable {
    /// The message's epoch is not reached here: the app has to run and sync once.
    case unknownEpoch(code: String)
    /// The reader refused, with this code.
    case mls(code: String)
    /// The sender's published keys name another credential than the one that sealed the message.
    case senderConflicts
    /// The push names no event, or the content is none that this shows.
    case unexpected(String)
    /// The store's key, the session or the event could not be had.
    case unavailable(String)
}

/// Decrypts the events of pushes with a reader beside the app's machine.
public struct PushDecryptor: Sendable {
    private let reader: MlsReader
    private let transport: any Transport
    private let words: PushWords

    /// A decryptor on an open reader. What the app's machine has not seen yet is fetched with the transport.
    public init(reader: MlsReader, transport: any Transport, words: PushWords = PushWords()) {
        self.reader = reader
        self.transport = transport
        self.words = words
    }

    /// What to show for an event, given as JSON, that a push named.
    public func notice(for push: Push, event: String) async -> PushNotice {
        if EncryptedEvent(json: event)?.isCommit == true { return .nothing }
        do {
            let message = try await reader.decrypt(roomId: push.roomId, event: event, transport: transport)
            return words.notice(push, message)
        } catch MlsError.UnknownEpoch(let details) {
            return words.generic(push, because: .unknownEpoch(code: details.code))
        } catch let error as MlsError {
            return words.generic(push, because: .mls(code: error.code))
        } catch {
            return words.generic(push, because: .unavailable("\(type(of: error))"))
        }
    }
}

/// The little that is read of an event before it is decrypted.
private struct EncryptedEvent: Decodable {
    struct Content: Decodable {
        let commits: Bool

        enum CodingKeys: CodingKey { case resolves }

        init(from decoder: any Decoder) throws {
            commits = try decoder.container(keyedBy: CodingKeys.self).contains(.resolves)
        }
    }

    let type: String
    let content: Content

    init?(json: String) {
        guard let event = try? JSONDecoder().decode(Self.self, from: Data(json.utf8)) else { return nil }
        self = event
    }

    /// Commits travel as encrypted events; they say which ones they resolve.
    var isCommit: Bool { type == "m.room.encrypted" && content.commits }
}
