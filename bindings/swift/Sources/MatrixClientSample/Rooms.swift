// What the sample client does in rooms: making them, who is in them, and sending and reading messages.

import Foundation
import MatrixMls

/// An encrypted message of a room's history, and what was inside if it could be opened.
public struct HistoryMessage: Sendable {
    /// The Matrix event.
    public let eventId: String
    /// What was inside.
    public let message: DecryptedMessage?

    /// The text inside, where there is one.
    public var text: String? {
        guard let content = message?.content else { return nil }
        return (try? readJson(Data(content.utf8)))?["body"] as? String
    }
}

extension MatrixClient {
    /// Creates a room that is encrypted with MLS from its first event on, and invites others. Returns its id.
    public func createRoom(invite userIds: [String]) async throws -> String {
        let request: Json = ["preset": "private_chat", "invite": userIds]
        let body = try createRoomBody(request: String(decoding: try writeJson(request), as: UTF8.self))
        let path = "/_matrix/client/v3/createRoom"
        return try await transport.call("POST", path, try readJson(Data(body.utf8))).text("room_id")
    }

    /// Makes the room's MLS group, with this device in it, unless that has been done; the others are added before the
    /// first message.
    public func enable(_ roomId: String) async throws {
        do {
            try await machine.room(roomId: roomId).enable(settings: RoomSettings())
        } catch let error as MlsError where error.code == "already_enabled" {
            // An app that does not remember may ask again.
        }
        try await settle()
    }

    /// Invites a user.
    public func invite(_ userId: String, to roomId: String) async throws {
        try await act("invite", roomId, ["user_id": userId])
    }

    /// Joins a room.
    public func join(_ roomId: String) async throws {
        try await act("join", roomId, [:])
    }

    /// Removes a user.
    public func kick(_ userId: String, from roomId: String) async throws {
        try await act("kick", roomId, ["user_id": userId])
    }

    private func act(_ action: String, _ roomId: String, _ request: Json) async throws {
        _ = try await transport.callForText("POST", "\(path(roomId))/\(action)", request)
    }

    /// Makes the group's members the room's, without sending a message.
    public func prepare(_ roomId: String) async throws {
        try await machine.prepare(try machine.room(roomId: roomId), transport)
    }

    /// Sends a text, encrypted. Returns the event's id.
    @discardableResult
    public func send(_ text: String, to roomId: String) async throws -> String {
        let content = String(decoding: try writeJson(["msgtype": "m.text", "body": text]), as: UTF8.self)
        let sealed = try await machine.encrypt(
            in: try machine.room(roomId: roomId), eventType: "m.room.message", content: content, transport: transport)
        let event = try readJson(Data(sealed.utf8))
        let path = "\(path(roomId))/send/m.room.encrypted/\(UUID().uuidString)"
        return try await transport.call("PUT", path, event).text("event_id")
    }

    /// The room's encrypted messages from the homeserver's history, oldest first.
    public func history(_ roomId: String) async throws -> [HistoryMessage] {
        let room = try machine.room(roomId: roomId)
        var messages: [HistoryMessage] = []
        for event in try await encryptedEvents(roomId) {
            let eventId = try readJson(Data(event.utf8)).text("event_id")
            do {
                messages.append(HistoryMessage(eventId: eventId, message: try await room.decrypt(event: event)))
            } catch is MlsError {
                messages.append(HistoryMessage(eventId: eventId, message: nil))
            }
        }
        return messages
    }

    /// The encrypted messages as they are, each as JSON, oldest first. Commits are encrypted events too, and left out.
    public func encryptedEvents(_ roomId: String) async throws -> [String] {
        try await events(roomId).filter { event in
            let event = try readJson(Data(event.utf8))
            let isCommit = (event["content"] as? Json)?["resolves"] != nil
            return event["type"] as? String == "m.room.encrypted" && !isCommit
        }
    }

    /// Every event of the room's history that this user may see, each as JSON, oldest first.
    public func events(_ roomId: String) async throws -> [String] {
        var events: [String] = []
        var from: String?
        while true {
            let query = "dir=b&limit=100" + (from.map { "&from=\(quote($0))" } ?? "")
            let page = try await transport.call("GET", "\(path(roomId))/messages?\(query)")
            let chunk = page["chunk"] as? [Json] ?? []
            events += try chunk.map { String(decoding: try writeJson($0), as: UTF8.self) }
            let end = page["end"] as? String
            if chunk.isEmpty || end == nil || end == from { return events.reversed() }
            from = end
        }
    }

    private func path(_ roomId: String) -> String {
        "/_matrix/client/v3/rooms/\(quote(roomId))"
    }
}
