/// A recovery key is made on one phone and typed on another.

import XCTest

@testable import MatrixMlsSampleModel

final class RecoveryTests: XCTestCase, @unchecked Sendable {
    func testANewPhoneReadsWhatWasSaidOnceTheKeyIsTyped() async throws {
        try await onMainActor {
            let (first, second) = (Installation("alice"), Installation("bob"))
            defer { first.remove(); second.remove() }
            let (alice, bob) = (try await first.registered(), try await second.registered())
            let roomId = try await twoInARoom(alice, bob)
            let sent = await bob.send("from the old days", to: roomId)
            XCTAssertTrue(sent, bob.state.problem ?? "")
            try await eventually(alice, shows: "Bob's text") { $0.texts(roomId) == ["from the old days"] }

            try await eventually(alice, shows: "that there is no key") { $0.recovery?.canSetUp == true }
            let without = "Without a recovery key, a new phone cannot read earlier messages."
            XCTAssertEqual(alice.state.recovery?.sentence, without)
            await alice.setUpRecovery()
            let key = try XCTUnwrap(alice.state.newRecoveryKey, alice.state.problem ?? "")
            try await eventually(alice, shows: "that it is set up") { $0.recovery?.sentence == "Your recovery key is set up." }
            alice.keyIsWrittenDown()
            XCTAssertNil(alice.state.newRecoveryKey)
            try await backedUp(alice)

            let drawer = Installation("drawer")
            defer { drawer.remove() }
            let phone = drawer.model()
            await phone.start()
            await phone.logIn(homeserver: try homeserver(), user: first.user, password: first.password)
            try await eventually(phone, shows: "the question") { $0.recovery?.canRecover == true }
            let question = "Type your recovery key to read earlier messages here."
            XCTAssertEqual(phone.state.recovery?.sentence, question)
            await phone.openTimeline(roomId)
            XCTAssertEqual(phone.state.timelines[roomId]?.map(\.isReadable), [false])
            await phone.recover(String(key.dropLast()))
            XCTAssertTrue(phone.state.problem?.contains("recovery_key_") == true, phone.state.problem ?? "none")
            await phone.recover(key)
            XCTAssertNil(phone.state.problem)
            try await eventually(phone, shows: "what was said") { $0.texts(roomId) == ["from the old days"] }
            try await eventually(phone, shows: "its identity") { $0.identity == .complete }
            try await eventually(phone, shows: "the end") { $0.recovery?.canRecover == false && $0.restoring == nil }
            for model in [alice, bob, phone] { await model.close() }
        }
    }

    /// Waits until the homeserver has every epoch.
    @MainActor
    private func backedUp(_ model: SampleModel) async throws {
        let backup = try XCTUnwrap(model.account).machine.backup()
        for _ in 1...300 {
            let counts = try await backup.counts()
            if counts.total > 0 && counts.backedUp == counts.total { return }
            try await Task.sleep(nanoseconds: 100_000_000)
        }
        XCTFail("never backed up")
    }
}
