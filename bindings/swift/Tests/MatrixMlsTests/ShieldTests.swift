// What is known of who has sent something, and what stops where an identity is another.

import MatrixClientSample
import MatrixMls
import XCTest

final class ShieldTests: DirectoryTestCase {
    func testAnotherOwnIdentityStopsWhatIsSentUntilTheUserDecides() async throws {
        let alice = ownUserId
        let (first, second) = (String(repeating: "A", count: 43), String(repeating: "B", count: 42) + "A")
        let homeserver = WithIdentity(of: alice, members: try members(alice), master: first)
        let machine = try await MlsMachine.open(config: config(directory.appendingPathComponent("alice")))
        let heard = try await Heard(machine)
        let room = try await machine.enableAlone()
        try await machine.doubtDeviceLists()
        try await machine.prepare(room, homeserver)
        try await fails("InvalidInput", "other_identity") { try await machine.confirmOwnIdentity(masterKey: second) }
        try await machine.confirmOwnIdentity(masterKey: first)
        let verified = try await machine.userIdentity(userId: alice)
        XCTAssertEqual(verified?.verification, .verified)
        try await machine.prepare(room, homeserver)

        homeserver.master = second
        try await machine.doubtDeviceLists()
        let stopped = try await fails("UntrustedMembers", "identity_changed") { try await machine.prepare(room, homeserver) }
        guard case .UntrustedMembers(let users, _) = stopped else { return XCTFail("\(stopped)") }
        XCTAssertEqual(users, [alice])
        let changed = try await machine.userIdentity(userId: alice)
        XCTAssertEqual(changed?.verification, .changed)
        try await machine.withdrawVerification(userId: alice)
        let told = try await heard.first { if case .trustChanged(let users) = $0 { users } else { nil } }
        XCTAssertEqual(told, [alice])
        let withdrawn = try await machine.userIdentity(userId: alice)
        XCTAssertEqual(withdrawn?.verification, .notVerified)
        try await machine.prepare(room, homeserver)
        let own = try await machine.deviceVerdict(userId: alice, deviceId: "PHONE")
        XCTAssertEqual(own, .verified)
        let other = try await machine.deviceVerdict(userId: alice, deviceId: "LAPTOP")
        XCTAssertEqual(other, .unknownDevice)
        try await machine.shutdown()
    }

    func testAnAppCanSendToVerifiedDevicesOnly() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        try await alice.send("to anybody", to: roomId)
        let message = try await bob.settle().last
        XCTAssertEqual(message?.verdict, .notSignedByOwner)
        try await alice.machine.sendOnlyToVerified(only: true)
        let stopped = try await fails("UntrustedMembers", "not_verified") { try await alice.prepare(roomId) }
        guard case .UntrustedMembers(let users, _) = stopped else { return XCTFail("\(stopped)") }
        XCTAssertEqual(users, [bob.userId])
        try await alice.machine.sendOnlyToVerified(only: false)
        try await alice.prepare(roomId)
        try await alice.close()
        try await bob.close()
    }

    func testAVerdictHasAShield() {
        XCTAssertEqual(shieldOf(verdict: .verified, strict: true), Shield.none)
        XCTAssertEqual(shieldOf(verdict: .ownerNotVerified, strict: false), Shield.none)
        guard case .red(let code, _) = shieldOf(verdict: .ownerNotVerified, strict: true) else { return XCTFail() }
        XCTAssertEqual(code, .unverifiedIdentity)
        guard case .grey(let why, _) = shieldOf(verdict: .onlyClaimed, strict: true) else { return XCTFail() }
        XCTAssertEqual(why, .authenticityNotGuaranteed)
    }
}
