// Opening, closing, giving up and going on.

import Foundation
import MatrixClientSample
import MatrixMls
import XCTest

/// What an app keeps outside the store.
private final class Count: RollbackGuard, @unchecked Sendable {
    // Every access to `count` is under `lock`.
    private let lock = NSLock()
    private var count: UInt64?

    func load() -> UInt64? {
        lock.withLock { count }
    }

    func store(count: UInt64) {
        lock.withLock { self.count = count }
    }
}

final class LifecycleTests: DirectoryTestCase {
    func testAMachineGoesOnWhereItWasClosed() async throws {
        let requests = try await MlsMachine.with(config(directory)) { try await $0.outgoingRequests() }
        XCTAssertEqual(requests.count, 1)
        let machine = try await open(directory)
        let again = try await machine.outgoingRequests()
        XCTAssertEqual(again, requests, "the same to the byte")
        XCTAssertEqual([machine.userId(), machine.deviceId()], [ownUserId, "PHONE"])
        try await machine.shutdown()
    }

    func testAStoreThatIsBehindTheAppsCountSealsNothingWithWhatItHolds() async throws {
        let kept = Count()
        let first = try await MlsMachine.openGuarded(config: config(directory), rollbackGuard: kept)
        _ = try await first.enableAlone().encrypt(eventType: "m.text", content: "{}")
        try await first.shutdown()
        XCTAssertEqual(kept.load(), 1)
        // Level with the store, and then ahead of it, as when an older copy was brought back.
        let level = try await MlsMachine.openGuarded(config: config(directory), rollbackGuard: kept)
        _ = try await level.room(roomId: testRoomId).encrypt(eventType: "m.text", content: "{}")
        try await level.shutdown()
        XCTAssertEqual(kept.load(), 2)
        kept.store(count: 9)
        let behind = try await MlsMachine.openGuarded(config: config(directory), rollbackGuard: kept)
        let room = try behind.room(roomId: testRoomId)
        try await fails("NotReady", "not_ready") { try await room.encrypt(eventType: "m.text", content: "{}") }
        try await behind.shutdown()
    }

    func testWithClosesTheStoreWhateverHappensAndWhoeverHoldsARoom() async throws {
        let (config, held) = (config(directory), Record<MlsRoom>())
        do {
            try await MlsMachine.with(config) { machine in
                held.add(try machine.room(roomId: testRoomId))
                throw TestError("the app's own")
            }
            XCTFail("the block's error is lost")
        } catch let error as TestError {
            XCTAssertEqual(error.description, "the app's own")
        }
        try await fails("Closed", "closed") { try await held.all[0].isEnabled() }

        let task = Task {
            try await MlsMachine.with(config) { machine in
                held.add(try machine.room(roomId: testRoomId))
                try await Task.sleep(nanoseconds: .max / 2)
            }
        }
        try await until("the block runs") { held.all.count == 2 }
        try await fails("StoreInUse", "store_in_use") { try await MlsMachine.open(config: config) }
        task.cancel()
        let result = await task.result
        XCTAssertThrowsError(try result.get()) { XCTAssertTrue($0 is CancellationError, "\($0)") }
        try await open(directory).shutdown()
    }

    func testASuspendedMachineLetsGoOfTheStoreRefusesEveryCallAndComesBack() async throws {
        let machine = try await open(directory)
        let room = try await machine.enableAlone()
        let reader = try await MlsReader.open(storePath: directory.path, storeKey: testKey)
        try await machine.suspend()
        try await reader.suspend()
        try await fails("Suspended", "suspended") { try await machine.outgoingRequests() }
        try await fails("Suspended", "suspended") { try await machine.drive(Accepting()) }
        try await fails("Suspended", "suspended") { try await room.encrypt(eventType: "m.text", content: "{}") }
        try await fails("Suspended", "suspended") { try await reader.decrypt(roomId: testRoomId, event: "{}") }
        let other = try await open(directory)
        try await fails("StoreInUse", "store_in_use") { try await machine.resume() }
        try await other.shutdown()
        try await machine.resume()
        try await reader.resume()
        _ = try await machine.encrypt(in: room, eventType: "m.room.message", content: "{}", transport: Accepting())
        // Nothing may have changed, and then it ends by itself.
        await machine.waitForChange(longestMs: 1)
        try await machine.shutdown()
    }

    func testMemoryIsLetGoAndARoomGoesOn() async throws {
        let machine = try await open(directory)
        let room = try await machine.enableAlone()
        for _ in 0..<2 {
            _ = try await machine.encrypt(in: room, eventType: "m.room.message", content: "{}", transport: Accepting())
            try await room.rotateKeys()
            try await machine.releaseMemory()
        }
        _ = try await machine.encrypt(in: room, eventType: "m.room.message", content: "{}", transport: Accepting())
        try await machine.shutdown()
        try await fails("Closed", "closed") { try await machine.releaseMemory() }
    }

    func testALoopThatWaitsEndsWhenTheMachineIsSuspended() async throws {
        let machine = try await open(directory)
        let id = try await machine.outgoingRequests()[0].id
        for _ in 0..<8 { try await machine.markRequestAsSent(id: id, answer: Answer(status: 0, body: Data())) }
        let driving = Task { try await machine.drive(Accepting()) }
        try await Task.sleep(nanoseconds: 50_000_000)
        try await machine.suspend()
        try await fails("Suspended", "suspended") { try await driving.value }
        try await machine.resume()
        try await machine.networkAvailable()
        let driven = try await machine.drive(Accepting())
        XCTAssertEqual(driven.accepted, 2)
        try await machine.shutdown()
    }

    func testTheKeyCanBeChangedAndTheOldOneOpensNothing() async throws {
        let passphrase = StoreKey.passphrase(passphrase: "correct horse")
        let machine = try await open(directory)
        try await machine.changeStoreKey(newKey: passphrase)
        try await machine.shutdown()
        try await fails("StoreWrongKey", "store_wrong_key") { try await open(self.directory) }
        let again = try await open(directory, passphrase)
        try await again.changeStoreKey(newKey: .unprotected)
        try await again.shutdown()
        try await open(directory, .unprotected).shutdown()
    }

    /// Whatever a task was doing when it was cancelled, the store is sound and the room works, then and after reopening.
    func testACallThatIsCancelledLeavesTheStoreSound() async throws {
        let client = try await account("alice")
        let roomId = try await client.createRoom(invite: [])
        try await client.settle()
        try await client.enable(roomId)
        let room = try client.machine.room(roomId: roomId)
        let cancelled = Record<Int>()
        for round in 0..<200 {
            let task = Task {
                switch round % 4 {
                case 0: try await room.rotateKeys()
                case 1: try await client.prepare(roomId)
                case 2: try await client.send("round \(round)", to: roomId)
                default: try await room.setMembers(userIds: [client.userId])
                }
            }
            // A moment later each time, so that every step of each call is hit.
            try await Task.sleep(nanoseconds: UInt64(round / 4) * 200_000)
            task.cancel()
            if case .failure(let error) = await task.result {
                XCTAssertTrue(error is CancellationError || (error as? URLError)?.code == .cancelled, "\(error)")
                cancelled.add(round)
            }
        }
        XCTAssertFalse(cancelled.all.isEmpty, "no call was cancelled half-way")
        try await soundAfterwards(client, roomId)
    }

    /// The same with the cancellation at each request, before it is sent and after it was answered.
    func testBeingCancelledAtAnyRequestLosesNothing() async throws {
        let client = try await account("alice")
        let roomId = try await client.createRoom(invite: [])
        try await client.settle()
        try await client.enable(roomId)
        let room = try client.machine.room(roomId: roomId)
        for point in [Cancelling.Point.before, .instead, .after] {
            try await room.rotateKeys()
            let transport = Cancelling(client.transport, point)
            let task = Task { try await client.machine.prepare(room, transport) }
            // After the last answer there may be nothing left to cancel.
            if case .failure(let error) = await task.result {
                XCTAssertTrue(error is CancellationError, "\(error)")
            } else {
                XCTAssertEqual(point, .after)
            }
            XCTAssertEqual(transport.cancelled.all.count, 1)
        }
        try await soundAfterwards(client, roomId)
    }

    private func soundAfterwards(_ client: MatrixClient, _ roomId: String) async throws {
        try await client.settle()
        try await client.send("after all that", to: roomId)
        let last = try await client.history(roomId).last
        XCTAssertEqual(last?.text, "after all that")
        let event = try await client.encryptedEvents(roomId).last ?? "none"
        let userId = client.userId
        try await client.close()
        let read = try await MlsMachine.with(config(client.store, userId: userId)) { machine in
            try await machine.room(roomId: roomId).decrypt(event: event)
        }
        XCTAssertEqual(try text(read), "after all that")
        try await finish(client)
    }
}

/// Cancels the task that sends, at its first request.
private struct Cancelling: Transport {
    enum Point { case before, instead, after }

    let cancelled = Record<Point>()
    private let inner: any Transport
    private let point: Point

    init(_ inner: any Transport, _ point: Point) {
        self.inner = inner
        self.point = point
    }

    func send(_ request: OutgoingRequest) async throws -> Answer {
        switch point {
        case .before:
            cancel()
            // An HTTP client that notices.
            return try await inner.send(request)
        case .instead:
            cancel()
            throw CancellationError()
        case .after:
            let answer = try await inner.send(request)
            cancel()
            return answer
        }
    }

    private func cancel() {
        cancelled.add(point)
        withUnsafeCurrentTask { $0?.cancel() }
    }
}
