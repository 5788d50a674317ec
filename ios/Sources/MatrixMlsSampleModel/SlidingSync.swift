/// What the app's two sliding sync connections ask for (MSC4186), as Element X has them. `room-list` tells of the rooms,
/// `encryption` of to-device events, devices and keys.

import Foundation
import MatrixClientSample
import MatrixMls

enum SlidingSync {
    /// What the machine needs of a room's state, and the name. Members are told of as they appear; the machine asks for
    /// the others.
    private static let requiredState = [
        ["m.room.create", ""], ["m.room.encryption", ""], ["m.room.history_visibility", ""],
        ["m.room.power_levels", ""], ["m.room.tombstone", ""], ["org.matrix.msc2883.v1.dmls.restart", ""],
        ["m.room.name", ""], ["m.room.member", "$LAZY"], ["m.room.member", "$ME"],
    ]

    /// The request of `room-list`, for so many rooms with so many events each.
    static func roomList(rooms: Int, timelineLimit: Int) throws -> String {
        let list: Json = [
            "ranges": [[0, rooms - 1]], "timeline_limit": timelineLimit, "required_state": requiredState,
        ]
        return text(try writeJson(["conn_id": "room-list", "lists": ["all": list]]))
    }

    /// The request of `encryption`. The homeserver deletes the to-device events up to `since`.
    static func encryption(since: String?) throws -> String {
        var events: Json = ["enabled": true]
        if let since { events["since"] = since }
        let extensions: Json = ["to_device": events, "e2ee": ["enabled": true]]
        return text(try writeJson(["conn_id": "encryption", "extensions": extensions]))
    }

    private static func text(_ json: Data) -> String { String(decoding: json, as: UTF8.self) }
}

extension Account {
    /// Asks a connection for news, and gives them to the machine. Returns what the screens need of the response, and what
    /// the machine made of it.
    func sync(_ request: String, pos: String?, timeoutMs: Int) async throws -> (news: SyncNews, summary: SyncSummary) {
        do {
            let response = try await homeserver.slidingSync(request, pos: pos, timeoutMs: timeoutMs)
            let changes = try SyncChanges.fromSlidingSync(request: request, pos: pos, response: response)
            let news = try SyncNews(response)
            return (news, try await machine.receiveSync(changes: changes))
        } catch HomeserverError.refused(_, "M_UNKNOWN_POS", _) where pos != nil {
            // The homeserver has forgotten the connection: it begins anew, and the machine sees that.
            return try await sync(request, pos: nil, timeoutMs: timeoutMs)
        }
    }
}
