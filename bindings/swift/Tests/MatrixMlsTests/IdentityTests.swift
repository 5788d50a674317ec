// The user's own cross-signing identity, and the recovery key that gives it to a new phone.

import Foundation
import MatrixClientSample
import MatrixMls
import XCTest

final class IdentityTests: WatchedTestCase {
    private func expect(_ expected: IdentityState, _ client: MatrixClient, line: UInt = #line) async throws {
        let state = try await client.machine.identity().state()
        XCTAssertEqual(state, expected, line: line)
    }

    private func createIdentity(_ client: MatrixClient) async throws {
        try await client.machine.identity().create()
        for _ in 0..<3 { try await client.settle() }
        try await expect(.complete, client)
    }

    func testAnIdentityIsMadeOnceAndMadeAnewAfterThePassword() async throws {
        let bob = try await account("bob")
        try await expect(.unknown, bob)
        try await bob.settle()
        try await expect(.absent, bob)
        let heard = try await Heard(bob.machine)
        try await createIdentity(bob)
        let signed: String? = try await heard.first {
            if case .signatureUploaded(_, let deviceId) = $0 { deviceId } else { nil }
        }
        XCTAssertEqual(signed, "PHONE")
        let state: IdentityState = try await heard.first {
            if case .identityStateChanged(let state) = $0 { state } else { nil }
        }
        XCTAssertEqual(state, .working)
        let identity = bob.machine.identity()
        try await fails("InvalidInput", "identity_exists") { try await identity.create() }
        try await fails("InvalidInput", "no_auth_needed") { try await identity.authorize(auth: "{}") }
        let cancelled = try await identity.cancel()
        XCTAssertFalse(cancelled)
        try await identity.reset()
        try await bob.settle()
        let isGivenUp = try await identity.cancel()
        XCTAssertTrue(isGivenUp)
        let code: String = try await heard.first {
            if case .identityFailed(let code, _) = $0 { code } else { nil }
        }
        XCTAssertEqual(code, "cancelled")
        try await identity.reset()
        try await bob.settle()
        guard case .authNeeded(let challenge) = try await identity.state() else {
            return XCTFail("nobody is asked who they are")
        }
        XCTAssertEqual(challenge.flows.map(\.stages), [["m.login.password"]])
        try await fails("InvalidInput", "bad_auth") { try await identity.authorize(auth: "[]") }
        let auth: Json = [
            "type": "m.login.password", "password": "secret", "session": challenge.session ?? "",
            "identifier": ["type": "m.id.user", "user": bob.userId],
        ]
        try await identity.authorize(auth: String(decoding: try writeJson(auth), as: UTF8.self))
        for _ in 0..<3 { try await bob.settle() }
        try await expect(.complete, bob)
    }

    func testADeviceSignsWhatItsUserHasCompared() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        _ = try await roomOf(alice, bob)
        try await createIdentity(alice)
        try await createIdentity(bob)
        try await bob.settle()
        let found = try await bob.machine.userIdentity(userId: alice.userId)
        let master = try XCTUnwrap(found).masterKey
        let identity = bob.machine.identity()
        try await fails("InvalidInput", "bad_key") {
            try await identity.signUser(userId: alice.userId, masterKey: "none")
        }
        try await fails("NotReady", "no_such_device") {
            try await identity.signDevice(deviceId: "LAPTOP", ed25519Key: master)
        }
        let heard = try await Heard(bob.machine)
        try await identity.signUser(userId: alice.userId, masterKey: master)
        try await bob.settle()
        let signed: String = try await heard.first {
            if case .signatureUploaded(let userId, _) = $0 { userId } else { nil }
        }
        XCTAssertEqual(signed, alice.userId)
        try await identity.signUser(userId: alice.userId, masterKey: master)
        let requests = try await bob.machine.outgoingRequests()
        let upload = try XCTUnwrap(requests.first { $0.path.contains("/signatures/upload") })
        let failure: Json = ["errcode": "M_INVALID_SIGNATURE", "error": "no"]
        let answer: Json = ["failures": [alice.userId: [master: failure]]]
        _ = try await bob.machine.markRequestAsSent(id: upload.id, status: 200, body: try writeJson(answer))
        let refused: String = try await heard.first {
            if case .signatureRefused(_, _, let code, _) = $0 { code } else { nil }
        }
        XCTAssertEqual(refused, "M_INVALID_SIGNATURE")
    }

    func testARecoveryKeyGivesANewPhoneTheIdentity() async throws {
        let bob = try await account("bob")
        try await createIdentity(bob)
        let key = try RecoveryKey.generate()
        let identity = bob.machine.identity()
        let own = try await Heard(bob.machine)
        try await identity.lookForRecovery()
        try await bob.settle()
        let told: RecoveryState = try await own.first {
            if case .recoveryChanged(let state) = $0 { state } else { nil }
        }
        XCTAssertNotNil(told)
        let before = try await identity.recoveryState()
        XCTAssertEqual(before, .absent)
        try await identity.storeSecrets(key: key, replace: false)
        try await bob.settle()
        guard case .present = try await identity.recoveryState() else { return XCTFail("nothing is stored") }

        let new = try await anotherDevice(bob, "NEW")
        try await new.settle()
        try await bob.settle()
        let unsigned: String = try await own.first {
            if case .unsignedOwnDevice(let deviceId) = $0 { deviceId } else { nil }
        }
        XCTAssertEqual(unsigned, "NEW")
        let heard = try await Heard(new.machine)
        try await new.machine.identity().recover(key: try RecoveryKey.generate())
        try await new.settle()
        let code: String = try await heard.first {
            if case .recoveryFailed(let code, _) = $0 { code } else { nil }
        }
        XCTAssertEqual(code, "wrong_key")
        try await new.machine.identity().recoverWithHistory(key: key)
        for _ in 0..<3 { try await new.settle() }
        let recovered: [String] = try await heard.first {
            if case .recoveryFinished(let recovered, _) = $0 { recovered } else { nil }
        }
        XCTAssertEqual(recovered.count, 3)
        try await expect(.complete, new)
    }

    func testADeviceNoticesThatTheHomeserverLeavesItOut() async throws {
        let bob = try await account("bob")
        try await createIdentity(bob)
        let heard = try await Heard(bob.machine)
        for _ in 0..<2 {
            try await bob.machine.doubtDeviceLists()
            let requests = try await bob.machine.outgoingRequests()
            let query = try XCTUnwrap(requests.first { $0.path.contains("/keys/query") })
            let answer = Data(#"{"device_keys":{}}"#.utf8)
            _ = try await bob.machine.markRequestAsSent(id: query.id, status: 200, body: answer)
        }
        let code: String = try await heard.first {
            if case .ownDeviceAltered(let code, _) = $0 { code } else { nil }
        }
        XCTAssertEqual(code, "missing")
    }

    func testBesideOlmTheIdentityIsTheOlmMachines() async throws {
        let beside = config(try newDirectory(), publishing: .besideOlm)
        let machine = try await MlsMachine.open(config: beside)
        try await fails("Unsupported", "beside_olm") { try await machine.identity().create() }
    }
}
