// A device that was verified gets its user's secrets.

import MatrixClientSample
import MatrixMls
import XCTest

final class HandoverTests: WatchedTestCase {
    private func settle(_ clients: MatrixClient...) async throws {
        for _ in 0..<3 {
            for client in clients { try await client.settle() }
        }
    }

    func testAVerifiedDeviceTakesTheIdentityFromTheOther() async throws {
        let phone = try await account("alice")
        try await phone.makeIdentity()
        let laptop = try await anotherDevice(phone, "LAPTOP")
        try await settle(laptop, phone)
        let asked = try await phone.machine.requestVerification(userId: phone.userId, deviceId: "LAPTOP")
        let ours = asked.id()
        try await settle(phone, laptop)
        let open = try await laptop.machine.verifications()
        let theirs = laptop.machine.verification(verificationId: try XCTUnwrap(open.first?.id))
        try await theirs.accept()
        try await settle(laptop, phone)
        try await asked.startSas()
        try await settle(phone, laptop)
        try await fails("InvalidInput", "not_now") { try await asked.offerSecrets() }
        try await asked.confirm()
        try await theirs.confirm()
        try await settle(phone, laptop)
        let heard = try await Heard(laptop.machine)

        try await phone.machine.verification(verificationId: ours).offerSecrets()
        try await phone.settle()
        let body = try await laptop.transport.exchange("GET", "/_matrix/client/v3/sync?timeout=0").body
        let changes = try SyncChanges.fromSyncResponse(String(decoding: body, as: UTF8.self), since: nil)
        let results = try await laptop.machine.receiveSync(changes: changes).toDevice
        XCTAssertEqual(results, [.secretsReceived(deviceId: "PHONE")])
        try await settle(phone, laptop)
        let from = try await heard.first {
            if case .secretsReceived(_, let device, _, _) = $0 { device } else { nil }
        }

        XCTAssertEqual(from, "PHONE")
        let state = try await laptop.machine.identity().state()
        XCTAssertEqual(state, .complete)
        let isLeft = try await theirs.withdrawSecrets()
        XCTAssertFalse(isLeft, "they were taken")
        try await finish(phone, laptop)
    }
}
