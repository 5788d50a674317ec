// The whole loop as one call: syncing, sending, going on after a failure, and ending.

import Foundation
import MatrixClientSample
import MatrixMls
import XCTest

#if canImport(FoundationNetworking)
    import FoundationNetworking
#endif

/// A source of syncs that are made up.
private final class MadeUp: SyncSource {
    let received = Record<String>()
    private let asked = Record<Void>()
    private let make: @Sendable (Int) async throws -> SyncChanges

    init(_ make: @escaping @Sendable (Int) async throws -> SyncChanges) {
        self.make = make
    }

    func next() async throws -> SyncChanges {
        asked.add(())
        return try await make(asked.all.count)
    }

    func received(_ changes: SyncChanges, _ summary: SyncSummary) async throws {
        received.add(changes.nextBatch)
    }
}

/// A homeserver that does what a block says.
private struct Homemade: Transport {
    let answer: @Sendable (OutgoingRequest) async throws -> Answer

    func send(_ request: OutgoingRequest) async throws -> Answer { try await answer(request) }
}

private func refusing(_ status: Int, _ code: String) -> Homemade {
    Homemade { _ in Answer(status: status, body: Data(#"{"errcode":"\#(code)","error":"no"}"#.utf8)) }
}

private func forEver() async throws -> Never {
    while true { try await Task.sleep(nanoseconds: 1_000_000_000) }
}

final class RunTests: DirectoryTestCase {
    func testTwoDevicesThatRunTalkAndEachHearsTheOther() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await alice.createRoom(invite: [bob.userId])
        try await bob.join(roomId)
        try await alice.settle()
        try await alice.enable(roomId)
        let (hers, his) = (Record<String>(), Record<String>())
        let tasks = [
            Task { try await alice.run { if let text = try? text($0) { hers.add(text) } } },
            Task { try await bob.run { if let text = try? text($0) { his.add(text) } } },
        ]
        for round in 0..<3 {
            try await alice.send("to Bob \(round)", to: roomId)
            try await until("Bob hears") { his.all.contains("to Bob \(round)") }
            try await bob.send("to Alice \(round)", to: roomId)
            try await until("Alice hears") { hers.all.contains("to Alice \(round)") }
        }
        // Other clients see that the room is encrypted.
        let types = try await bob.events(roomId).map { try readJson(Data($0.utf8))["type"] as? String }
        XCTAssertEqual(types.filter { $0 == "m.room.encryption" }.count, 1)
        for task in tasks {
            task.cancel()
            _ = await task.result
        }
        try await finish(alice, bob)
    }

    func testWithoutANetworkItWaitsAndGoesOn() async throws {
        let machine = try await open(directory)
        let online = Record<Void>()
        let transport = Homemade { request in
            if online.all.isEmpty { throw NoAnswer() }
            return try await Accepting().send(request)
        }
        let source = MadeUp { asked in
            if asked == 1 { throw URLError(.notConnectedToInternet) }
            if asked == 2 {
                online.add(())
                return syncOf()
            }
            try await forEver()
        }
        let running = Task { try await machine.run(transport, source) }
        try await until("all is sent") {
            let isSent = try await machine.outgoingRequests().isEmpty
            return isSent && !source.received.all.isEmpty
        }
        XCTAssertEqual(source.received.all, ["s1"])
        running.cancel()
        if case .failure(let error) = await running.result { XCTAssertTrue(error is CancellationError, "\(error)") }
        try await machine.shutdown()
    }

    func testWhatEndsItIsTold() async throws {
        let machine = try await open(directory)
        let silent = MadeUp { _ in try await forEver() }
        try await fails("Unauthorized", "unauthorized") {
            try await machine.run(refusing(401, "M_UNKNOWN_TOKEN"), silent) as Never
        }
        do {
            try await machine.run(Accepting(), MadeUp { _ in throw TestError("the app's own") }) as Never
        } catch let error as TestError {
            XCTAssertEqual(error.description, "the app's own")
        }
        let running = Task { try await fails("Closed", "closed") { try await machine.run(Accepting(), silent) as Never } }
        try await Task.sleep(nanoseconds: 50_000_000)
        try await machine.shutdown()
        _ = try await running.value
    }

    func testTwoThatDriveAtOnceSendNothingTwiceAndBothEndWithNothingLeft() async throws {
        let machine = try await open(directory)
        let (sent, open) = (Record<String>(), Record<Void>())
        let transport = Homemade { request in
            sent.add(request.id)
            while open.all.isEmpty { try await Task.sleep(nanoseconds: 1_000_000) }
            return try await Accepting().send(request)
        }
        try await machine.room(roomId: testRoomId).enable(settings: RoomSettings())
        async let first = machine.drive(transport)
        async let second = machine.drive(transport)
        try await until("one sends") { !sent.all.isEmpty }
        // Time enough for the other to send the same.
        try await Task.sleep(nanoseconds: 100_000_000)
        XCTAssertEqual(sent.all.count, 1)
        open.add(())
        let driven = try await [first, second]
        XCTAssertEqual(Set(sent.all).count, sent.all.count)
        XCTAssertEqual(driven.map { $0.accepted + $0.refused.count }.reduce(0, +), sent.all.count)
        let left = try await machine.outgoingRequests()
        XCTAssertEqual(left, [])
        try await machine.shutdown()
    }

    func testARecoveryKeyIsGivenOnceTheHomeserverHasTheBackup() async throws {
        let alice = try await account("alice")
        let key = try await alice.machine.createBackup(alice.transport)
        let backup = alice.machine.backup()
        let (state, own) = (try await backup.state(), try await backup.recoveryKey())
        guard case .enabled = state else { return XCTFail("\(state)") }
        XCTAssertEqual(own?.text(), key.text())
        let laptop = try await anotherDevice(alice, "LAPTOP")
        try await fails("InvalidInput", "backup_exists") { try await laptop.machine.createBackup(laptop.transport) }
        let next = try await laptop.machine.createBackup(laptop.transport, replace: true)
        XCTAssertNotEqual(next.text(), key.text())
        try await fails("Rejected", "M_FORBIDDEN") {
            try await laptop.machine.createBackup(refusing(403, "M_FORBIDDEN"), replace: true)
        }
        try await finish(alice, laptop)
    }

    func testARestoreEndsOrFailsWhateverHappens() async throws {
        let (alice, bob) = (try await account("alice"), try await account("bob"))
        let roomId = try await roomOf(alice, bob)
        try await alice.send("hello", to: roomId)
        let key = try RecoveryKey.parse(text: try await alice.backUp())
        let phone = try await anotherDevice(alice, "NEWPHONE")
        let machine = phone.machine
        try await fails("Unauthorized", "unauthorized") {
            try await machine.restoreBackup(refusing(401, "M_UNKNOWN_TOKEN"), key: key)
        }
        try await fails("Rejected", "M_FORBIDDEN") {
            try await machine.restoreBackup(refusing(403, "M_FORBIDDEN"), key: key)
        }
        let offline = Task { try await machine.restoreBackup(Homemade { _ in throw NoAnswer() }, key: key) }
        try await Task.sleep(nanoseconds: 50_000_000)
        offline.cancel()
        if case .success(let restored) = await offline.result { XCTFail("\(restored)") }
        try await machine.networkAvailable()
        let restored = try await machine.restoreBackup(phone.transport, key: key)
        XCTAssertGreaterThan(restored.epochs, 0)
        try await alice.machine.backup().delete()
        try await alice.machine.drive(alice.transport)
        try await fails("InvalidInput", "no_backup") { try await machine.restoreBackup(phone.transport, key: key) }
        try await finish(alice, bob, phone)
    }
}
