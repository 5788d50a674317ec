// Alice and Bob talk in an MLS room: the sample of the README, against any homeserver that lets accounts be registered.

import Foundation
import MatrixClientSample
import MatrixMls

@main
struct TwoDevices {
    static func main() async throws {
        guard let homeserver = CommandLine.arguments.dropFirst().first else {
            fatalError("usage: TwoDevices HOMESERVER_URL")
        }
        let tag = UUID().uuidString.prefix(8).lowercased()
        let stores = FileManager.default.temporaryDirectory.appendingPathComponent("matrix-mls-\(tag)")

        // An app takes the key from the platform's key store; see the ios folder.
        func device(_ name: String) -> MatrixClient.Device {
            let key = StoreKey.raw(key: Data(repeating: 7, count: 32))
            return MatrixClient.Device(id: "PHONE", directory: stores.appendingPathComponent(name), storeKey: key)
        }
        let alice = try await MatrixClient.register(
            homeserver, user: "alice-\(tag)", password: "secret of alice", device: device("alice"))
        let bob = try await MatrixClient.register(
            homeserver, user: "bob-\(tag)", password: "secret of bob", device: device("bob"))
        // Each publishes its keys, so that it can be added to groups.
        try await alice.settle()
        try await bob.settle()

        let room = try await alice.createRoom(invite: [bob.userId])
        try await bob.join(room)
        try await alice.settle()
        try await alice.enable(room)
        try await alice.send("Hello, Bob", to: room)

        for message in try await bob.settle() {
            print("Bob reads, from \(message.senderUserId) (\(message.verdict)), epoch \(message.epoch): \(message.content)")
        }
        try await alice.close()
        try await bob.close()
    }
}
