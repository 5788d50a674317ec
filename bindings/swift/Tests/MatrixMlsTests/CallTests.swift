// Secrets for the keys of a call.

import Foundation
import MatrixClientSample
import MatrixMls
import XCTest

final class CallTests: WatchedTestCase {
    private func settle(_ clients: MatrixClient...) async throws {
        for _ in 0..<3 {
            for client in clients { try await client.settle() }
        }
    }

    func testBothDevicesHaveTheSameBytesUntilSomebodyCommits() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        try await bob.prepare(roomId)
        try await settle(bob, alice)
        let heard = try await Heard(alice.machine)

        try await alice.prepare(roomId)
        let context = Data("call-1|\(alice.userId)|PHONE".utf8)
        let mine = try await alice.machine.room(roomId: roomId)
            .exportSecret(label: "org.example.call.media", context: context, length: 32)

        try await settle(alice, bob)
        let theirs = try await bob.machine.room(roomId: roomId).exportSecretOfEpoch(
            epochId: mine.epochId, label: "org.example.call.media", context: context, length: 32)
        XCTAssertEqual(mine, theirs)

        try await bob.machine.room(roomId: roomId).rotateKeys()
        try await bob.prepare(roomId)
        try await settle(bob, alice)
        let previous = try await heard.first {
            if case .exportedSecretsChanged(_, _, _, let previous, let ms) = $0 { (previous, ms) } else { nil }
        }
        XCTAssertEqual(previous.0, mine.epochId)
        XCTAssertEqual(previous.1, 60_000)
        try await alice.prepare(roomId)
        let next = try await alice.machine.room(roomId: roomId)
            .exportSecret(label: "org.example.call.media", context: context, length: 32)
        XCTAssertNotEqual(mine.secret, next.secret)
        try await finish(alice, bob)
    }

    func testLabelsOfTheLibraryAndOtherWrongArgumentsAreRefused() async throws {
        let alice = try await account("alice")
        let roomId = try await alice.createRoom(invite: [])
        try await alice.settle()
        try await alice.enable(roomId)
        try await alice.prepare(roomId)
        let room = try alice.machine.room(roomId: roomId)
        try await fails("InvalidInput", "reserved_label") {
            try await room.exportSecret(label: "org.matrix.msc2883.v1.dmls.history", context: Data(), length: 32)
        }
        try await fails("InvalidInput", "bad_length") {
            try await room.exportSecret(label: "org.example", context: Data(), length: 8)
        }
        try await fails("InvalidInput", "bad_epoch_id") {
            try await room.exportSecretOfEpoch(epochId: "7", label: "org.example", context: Data(), length: 32)
        }
        try await finish(alice)
    }
}
