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
        for json in try await homeserver.newest(in: roomId).reversed() {
            guard let event = Event(json: json), let id = event.eventId, event.isEncryptedMessage else { continue }
            do {
                rows.append(TimelineRow(id: id, try await room.decrypt(event: json)))
            } catch let error as MlsError {
                if let row = TimelineRow(id: id, sender: event.sender, error) { rows.append(row) }
            }
        }
        return rows
    }
}
