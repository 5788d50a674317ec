/// The calls of the client-server API that the sample makes, each as small as it can be.

import Foundation
import MatrixClientSample
import MatrixMls

/// What the homeserver answered instead of what was asked for.
public enum HomeserverError: Error, Sendable, Equatable {
    /// It refused, with a Matrix error code.
    case refused(status: Int, code: String, reason: String)
    /// It said something that its API does not allow.
    case malformed(String)

    /// Whether the access token is worth nothing any more.
    var isLoggedOut: Bool {
        if case .refused(_, "M_UNKNOWN_TOKEN", _) = self { return true }
        return false
    }

    /// Whether asking again is of no use.
    var isFinal: Bool {
        if case .refused(let status, _, _) = self { return status < 500 && status != 429 && !isLoggedOut }
        return false
    }
}

extension HomeserverError: LocalizedError {
    /// A sentence for the screen.
    public var errorDescription: String? {
        switch self {
        case .refused(let status, let code, let reason): return "\(reason) (\(status) \(code))"
        case .malformed(let what): return "The homeserver's answer makes no sense: \(what)"
        }
    }
}

/// One homeserver, with an access token once there is one.
public struct Homeserver: Sendable {
    /// What sends the engine's requests.
    public let transport: HttpTransport

    init(_ address: String, accessToken: String? = nil) {
        transport = HttpTransport(baseUrl: address, accessToken: accessToken)
    }

    /// The homeserver of a session, as that session's device.
    public init(_ session: Session) {
        self.init(session.homeserver, accessToken: session.accessToken)
    }

    /// Logs in as a new device. Passwords go nowhere but here.
    static func logIn(_ address: String, user: String, password: String) async throws -> Session {
        let request: Json = [
            "type": "m.login.password", "password": password,
            "identifier": ["type": "m.id.user", "user": user],
            "initial_device_display_name": "matrix-mls sample",
        ]
        return try await enter(address, "login", request)
    }

    /// Makes an account, with its first device, on a homeserver that lets anybody.
    static func register(_ address: String, user: String, password: String) async throws -> Session {
        let request: Json = [
            "username": user, "password": password, "auth": ["type": "m.login.dummy"],
            "initial_device_display_name": "matrix-mls sample",
        ]
        return try await enter(address, "register", request)
    }

    private static func enter(_ address: String, _ endpoint: String, _ request: Json) async throws -> Session {
        struct Entered: Decodable {
            let user_id: String
            let device_id: String
            let access_token: String
        }
        let body = try await Homeserver(address).call("POST", endpoint, request)
        let entered = try decode(Entered.self, body)
        return Session(
            homeserver: address, userId: entered.user_id, deviceId: entered.device_id,
            accessToken: entered.access_token)
    }

    func logOut() async throws {
        _ = try await call("POST", "logout", [:])
    }

    /// Asks a sliding sync connection for news (MSC4186). Gives the response's text, which is the engine's to read as well.
    func slidingSync(_ request: String, pos: String?, timeoutMs: Int) async throws -> String {
        let from = pos.map { "&pos=\(escaped($0))" } ?? ""
        let path = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout=\(timeoutMs)\(from)"
        return String(decoding: try await exchange("POST", path, Data(request.utf8)), as: UTF8.self)
    }

    /// Makes a room that is encrypted with MLS from its first event on.
    func createRoom(name: String, invite userIds: [String]) async throws -> String {
        struct Created: Decodable { let room_id: String }
        let request: Json = ["preset": "private_chat", "name": name, "invite": userIds]
        let text = String(decoding: try writeJson(request), as: UTF8.self)
        let body = Data(try createRoomBody(request: text).utf8)
        return try decode(Created.self, await call("POST", "createRoom", body: body)).room_id
    }

    func join(_ roomId: String) async throws {
        _ = try await call("POST", "rooms/\(escaped(roomId))/join", [:])
    }

    func invite(_ userId: String, to roomId: String) async throws {
        _ = try await call("POST", "rooms/\(escaped(roomId))/invite", ["user_id": userId])
    }

    /// Sends what `encrypt` gave. Returns the event's id.
    func sendEncrypted(_ content: String, to roomId: String, transactionId: String) async throws -> String {
        struct Sent: Decodable { let event_id: String }
        let path = "rooms/\(escaped(roomId))/send/m.room.encrypted/\(escaped(transactionId))"
        return try decode(Sent.self, await call("PUT", path, body: Data(content.utf8))).event_id
    }

    /// One event, as JSON: what a notification extension asks for when a push named it.
    public func event(_ eventId: String, in roomId: String) async throws -> String {
        let path = "rooms/\(escaped(roomId))/event/\(escaped(eventId))"
        return String(decoding: try await call("GET", path), as: UTF8.self)
    }

    /// A room's newest events, newest first, each as JSON.
    func newest(in roomId: String) async throws -> [String] {
        let answer = try readJson(await call("GET", "rooms/\(escaped(roomId))/messages?dir=b&limit=100"))
        guard let chunk = answer["chunk"] as? [Json] else { throw HomeserverError.malformed("no chunk") }
        return try chunk.map { String(decoding: try writeJson($0), as: UTF8.self) }
    }

    private func call(_ method: String, _ path: String, _ request: Json) async throws -> Data {
        try await call(method, path, body: try writeJson(request))
    }

    private func call(_ method: String, _ path: String, body: Data? = nil) async throws -> Data {
        try await exchange(method, "/_matrix/client/v3/\(path)", body)
    }

    private func exchange(_ method: String, _ path: String, _ body: Data?) async throws -> Data {
        struct Refused: Decodable {
            let errcode: String?
            let error: String?
        }
        let answer = try await transport.exchange(method, path, body)
        if (200..<300).contains(answer.status) { return answer.body }
        let refused = try? JSONDecoder().decode(Refused.self, from: answer.body)
        throw HomeserverError.refused(
            status: answer.status, code: refused?.errcode ?? "HTTP_\(answer.status)",
            reason: refused?.error ?? "The homeserver refused")
    }
}

/// Reads an answer.
private func decode<T: Decodable>(_ type: T.Type, _ body: Data) throws -> T {
    do {
        return try JSONDecoder().decode(type, from: body)
    } catch {
        throw HomeserverError.malformed("it is no \(type)")
    }
}

/// A part of a path or of a query, escaped.
private func escaped(_ part: String) -> String {
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    return part.addingPercentEncoding(withAllowedCharacters: CharacterSet(charactersIn: letters)) ?? part
}
