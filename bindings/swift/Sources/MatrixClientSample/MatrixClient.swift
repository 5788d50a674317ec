// A Matrix client as small as one can be: what an app does around the engine, in the order it does it. This file has
// the account, the sync loop and closing; Rooms.swift what is done in rooms.

import Foundation
import MatrixMls

/// One device of one user, logged in, with its machine open.
public final class MatrixClient: Sendable {
    /// A device: its id, the directory that is its own, and the key its store is sealed with.
    public struct Device: Sendable {
        public let id: String
        public let directory: URL
        public let storeKey: StoreKey

        /// A device that keeps everything in `directory`.
        public init(id: String, directory: URL, storeKey: StoreKey) {
            self.id = id
            self.directory = directory
            self.storeKey = storeKey
        }
    }

    /// What one sync brought.
    public struct Synced: Sendable {
        /// The messages it made readable.
        public let messages: [DecryptedMessage]
        /// Whether it brought nothing at all.
        public let isQuiet: Bool
    }

    /// The engine.
    public let machine: MlsMachine
    /// What sends the engine's requests.
    public let transport: HttpTransport
    /// Where the machine's store is.
    public let store: URL
    private let syncToken: URL

    /// The Matrix user id.
    public var userId: String { machine.userId() }
    /// The Matrix device id.
    public var deviceId: String { machine.deviceId() }

    /// Registers an account and its first device.
    public static func register(
        _ baseUrl: String, user: String, password: String, device: Device
    ) async throws -> MatrixClient {
        let auth = ["type": "m.login.dummy"]
        return try await enter(baseUrl, "register", device, ["username": user, "password": password, "auth": auth])
    }

    /// Logs in; with the directory of an earlier time this goes on with its store.
    public static func logIn(
        _ baseUrl: String, user: String, password: String, device: Device
    ) async throws -> MatrixClient {
        let identifier = ["type": "m.id.user", "user": user]
        let request: Json = ["type": "m.login.password", "password": password, "identifier": identifier]
        return try await enter(baseUrl, "login", device, request)
    }

    private static func enter(
        _ baseUrl: String, _ endpoint: String, _ device: Device, _ request: Json
    ) async throws -> MatrixClient {
        var request = request
        request["device_id"] = device.id
        let answer = try await HttpTransport(baseUrl: baseUrl).call("POST", "/_matrix/client/v3/\(endpoint)", request)
        let transport = HttpTransport(baseUrl: baseUrl, accessToken: try answer.text("access_token"))
        try FileManager.default.createDirectory(at: device.directory, withIntermediateDirectories: true)
        let store = device.directory.appendingPathComponent("mls")
        let config = MachineConfig(
            userId: try answer.text("user_id"), deviceId: try answer.text("device_id"), storePath: store.path,
            storeKey: device.storeKey, publishing: .alone)
        let machine = try await MlsMachine.open(config: config)
        let syncToken = device.directory.appendingPathComponent("next_batch")
        return MatrixClient(machine: machine, transport: transport, store: store, syncToken: syncToken)
    }

    private init(machine: MlsMachine, transport: HttpTransport, store: URL, syncToken: URL) {
        self.machine = machine
        self.transport = transport
        self.store = store
        self.syncToken = syncToken
    }

    /// Feeds one sync to the engine, waiting this long for news. One at a time.
    public func sync(timeoutMs: Int = 0) async throws -> Synced {
        let (since, body) = try await askForSync(timeoutMs)
        let changes = try SyncChanges.fromSyncResponse(body, since: since)
        let summary = try await machine.receiveSync(changes: changes)
        // Only now: what the engine did not take in would never come again.
        try storePosition(changes)
        let response = try readJson(Data(body.utf8))
        let isQuiet = ["rooms", "to_device", "device_lists"].allSatisfy { response[$0] == nil }
        return Synced(messages: messages(of: summary), isQuiet: isQuiet)
    }

    private func askForSync(_ timeoutMs: Int) async throws -> (since: String?, body: String) {
        let filter = #"{"room":{"timeline":{"limit":50}},"presence":{"not_types":["*"]}}"#
        var path = "/_matrix/client/v3/sync?timeout=\(timeoutMs)&filter=\(quote(filter))"
        let isFirst = !FileManager.default.fileExists(atPath: syncToken.path)
        let since = isFirst ? nil : try String(contentsOf: syncToken, encoding: .utf8)
        if let since { path += "&since=\(quote(since))" }
        return (since, try await transport.callForText("GET", path))
    }

    private func storePosition(_ changes: SyncChanges) throws {
        try Data(changes.nextBatch.utf8).write(to: syncToken, options: .atomic)
    }

    private func messages(of summary: SyncSummary) -> [DecryptedMessage] {
        summary.rooms.flatMap(\.events).compactMap { event in
            if case .message(let message) = event.outcome { message } else { nil }
        }
    }

    /// Syncs and sends until its task is cancelled, and tells what comes: what an app runs all the time.
    public func run(onMessage: @escaping @Sendable (DecryptedMessage) async -> Void) async throws -> Never {
        try await machine.run(transport, Syncs(client: self, onMessage: onMessage))
    }

    private struct Syncs: SyncSource {
        let client: MatrixClient
        let onMessage: @Sendable (DecryptedMessage) async -> Void

        func next() async throws -> SyncChanges {
            do {
                let (since, body) = try await client.askForSync(30_000)
                return try SyncChanges.fromSyncResponse(body, since: since)
            } catch let error as MatrixError where (error.status ?? 0) >= 500 || error.status == 429 {
                // A refused token, for one, does not get better by asking again; this may.
                throw NoAnswer()
            }
        }

        func received(_ changes: SyncChanges, _ summary: SyncSummary) async throws {
            try client.storePosition(changes)
            for message in client.messages(of: summary) { await onMessage(message) }
        }
    }

    /// Sends what the engine wants sent and syncs, until nothing is left and nothing new comes. Returns the messages
    /// that came.
    @discardableResult
    public func settle() async throws -> [DecryptedMessage] {
        var messages: [DecryptedMessage] = []
        while true {
            let sent = try await machine.drive(transport).accepted
            let synced = try await sync()
            messages += synced.messages
            if sent == 0 && synced.isQuiet { return messages }
        }
    }

    /// Closes the store.
    public func close() async throws {
        try await machine.shutdown()
    }
}

extension HttpTransport {
    /// Sends a request with a JSON body and gives the body of the answer, which must be a success.
    func callForText(_ method: String, _ path: String, _ body: Json? = nil) async throws -> String {
        let answer = try await exchange(method, path, try body.map(writeJson))
        let text = String(decoding: answer.body, as: UTF8.self)
        guard (200..<300).contains(answer.status) else {
            throw MatrixError(what: "\(method) \(path)", status: answer.status, body: text)
        }
        return text
    }

    /// The same for an answer that is a JSON object.
    func call(_ method: String, _ path: String, _ body: Json? = nil) async throws -> Json {
        try readJson(Data(try await callForText(method, path, body).utf8))
    }
}

/// A part of a path or of a query, escaped.
func quote(_ part: String) -> String {
    let plain = CharacterSet(charactersIn: "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
    return part.addingPercentEncoding(withAllowedCharacters: plain) ?? part
}
