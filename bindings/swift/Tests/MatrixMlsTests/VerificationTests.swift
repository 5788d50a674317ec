// Two people compare emojis.

import MatrixClientSample
import MatrixMls
import XCTest

final class VerificationTests: WatchedTestCase {
    private func settle(_ clients: MatrixClient...) async throws {
        for _ in 0..<3 {
            for client in clients { try await client.settle() }
        }
    }

    func testTwoDevicesShowTheSameAndVerifyEachOther() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let heard = try await Heard(bob.machine)
        let ours = try await alice.machine.requestVerification(userId: bob.userId, deviceId: nil)
        try await settle(alice, bob)
        let asked = try await heard.first {
            if case .verificationRequested(let id, let user, let device) = $0 { (id, user, device) } else { nil }
        }
        XCTAssertEqual(asked.1, alice.userId)
        XCTAssertEqual(asked.2, "PHONE")
        let theirs = bob.machine.verification(verificationId: asked.0)
        let open = try await bob.machine.verifications()
        XCTAssertEqual(open.map(\.id), [theirs.id()])
        XCTAssertEqual(open.map(\.isIncoming), [true])
        try await theirs.accept()
        try await settle(bob, alice)
        let ready = try await ours.info()
        XCTAssertEqual(ready.state, .ready)
        try await ours.startSas()
        try await settle(alice, bob)
        let (shown, other) = (try await ours.info().state, try await theirs.info().state)
        XCTAssertEqual(shown, other)
        guard case .comparing(let emojis, let decimals) = shown else { return XCTFail("not comparing: \(shown)") }
        XCTAssertEqual(emojis.count, 7)
        XCTAssertEqual(decimals.count, 3)
        try await ours.confirm()
        try await theirs.confirm()
        try await settle(alice, bob)
        let done = VerificationState.done(masterKey: nil, isSigned: false)
        for side in [ours, theirs] {
            let info = try await side.info()
            XCTAssertEqual(info.state, done)
        }
        let told = try await heard.first {
            if case .verificationChanged(let id, done) = $0 { id } else { nil }
        }
        XCTAssertEqual(told, theirs.id())
        try await finish(alice, bob)
    }

    func testWhatDiffersEndsItInARoomToo() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        let room = try alice.machine.room(roomId: roomId)
        let verification = try await room.requestVerification(userId: bob.userId)
        try await settle(alice, bob)
        let open = try await bob.machine.verifications()
        let info = try XCTUnwrap(open.first)
        XCTAssertEqual(info.roomId, roomId)
        let theirs = bob.machine.verification(verificationId: info.id)
        try await theirs.accept()
        try await settle(bob, alice)
        try await theirs.startSas()
        try await settle(bob, alice)
        try await verification.mismatch()
        try await settle(alice, bob)
        for side in [verification, theirs] {
            let state = try await side.info().state
            guard case .cancelled(let code, _, _) = state else { return XCTFail("not cancelled: \(state)") }
            XCTAssertEqual(code, "m.mismatched_sas")
        }
        try await verification.cancel()
        try await finish(alice, bob)
    }
}
