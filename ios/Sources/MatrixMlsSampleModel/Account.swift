/// A logged-in device with its store open: what the model's loops work on.

import Foundation
import MatrixMls

/// A device, its homeserver and its engine.
struct Account: Sendable {
    let session: Session
    let homeserver: Homeserver
    let machine: MlsMachine

    /// Opens the device's store, or makes it.
    static func open(_ session: Session, in places: Places, _ vault: Vault) async throws -> Account {
        try places.make()
        let config = MachineConfig(
            userId: session.userId, deviceId: session.deviceId, storePath: places.store.path,
            storeKey: try vault.storeKey(of: session).readOrCreate(), publishing: .alone)
        let machine = try await MlsMachine.open(config: config)
        return Account(session: session, homeserver: Homeserver(session), machine: machine)
    }

    /// A message that is ready to be sent: encrypted once, whatever happens to the request.
    func encrypt(_ text: String, for roomId: String) async throws -> String {
        let content = try JSONEncoder().encode(["msgtype": "m.text", "body": text])
        return try await machine.encrypt(
            in: try machine.room(roomId: roomId), eventType: "m.room.message",
            content: String(decoding: content, as: UTF8.self), transport: homeserver.transport)
    }

    /// The newest messages of a room's history, oldest first.
    func history(of roomId: String) async throws -> [TimelineRow] {
        let room = try machine.room(roomId: roomId)
        var rows: [TimelineRow] = []
        for json in try await homeserver.page(of: roomId, before: nil).events.reversed() {
            guard let event = Event(json: json), let id = event.eventId, event.isEncryptedMessage else { continue }
            do {
                rows.append(TimelineRow(id: id, try await room.decrypt(event: json)))
            } catch let error as MlsError {
                rows.append(TimelineRow(id: id, sender: event.sender, code: error.code))
            }
        }
        return rows
    }

    /// Gives the engine what a sync left out of a room's timeline. There may be commits in it, without which nothing
    /// after them can be read.
    func fillGap(in roomId: String, before newer: String, downTo older: String) async throws -> [EventResult] {
        var missing: [String] = []
        var token: String? = newer
        while let from = token {
            let page = try await homeserver.page(of: roomId, before: from, downTo: older)
            missing += page.events
            token = page.end
        }
        return try await machine.room(roomId: roomId).receiveEvents(events: missing.reversed())
    }
}
