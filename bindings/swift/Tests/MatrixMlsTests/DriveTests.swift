// The loop between the engine and the network, against a homeserver that is made up here.

import Foundation
import MatrixClientSample
import MatrixMls
import XCTest

/// Answers requests from a script, the last line again and again, and keeps what it was sent.
private struct Script: Transport {
    typealias Line = @Sendable () async throws -> Answer

    let seen = Record<OutgoingRequest>()
    let lines: [Line]

    init(_ lines: Line...) {
        self.lines = lines
    }

    func send(_ request: OutgoingRequest) async throws -> Answer {
        seen.add(request)
        return try await lines[min(seen.all.count, lines.count) - 1]()
    }
}

private func answer(_ status: Int, _ body: String) -> Answer {
    Answer(status: status, body: Data(body.utf8))
}

/// What a homeserver says to an upload of keys, and to the question that comes before it.
private let uploaded: Script.Line = { answer(200, #"{"one_time_key_counts":{},"device_keys":{}}"#) }
private let tokenExpired: Script.Line = { answer(401, #"{"errcode":"M_UNKNOWN_TOKEN","soft_logout":true}"#) }
private let inAnHour: Script.Line = { answer(429, #"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":3600000}"#) }
private let noNetwork: Script.Line = { throw URLError(.notConnectedToInternet) }

/// Waits until it is cancelled, as a request to a homeserver that does not answer.
private let noAnswer: Script.Line = {
    try await Task.sleep(nanoseconds: .max / 2)
    throw TestError("nobody cancelled this")
}

/// A homeserver that takes everything but what is sent to one path, which is put off for an hour.
private struct HourLong: Transport {
    let putOff = Record<OutgoingRequest>()
    private let part: String

    init(_ part: String) {
        self.part = part
    }

    func send(_ request: OutgoingRequest) async throws -> Answer {
        guard request.path.contains(part) else { return try await Accepting().send(request) }
        putOff.add(request)
        return try await inAnHour()
    }
}

final class DriveTests: DirectoryTestCase {
    func testWhatWasPutOffIsSentAgainWhenTheHomeserverSaidAndWhatFailsIsRepeatedToTheByte() async throws {
        let machine = try await open(directory)
        let script = Script({ answer(429, #"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":30}"#) }, noNetwork, uploaded)
        let driven = try await machine.drive(script)
        XCTAssertEqual(driven, Driven(accepted: 2, refused: []))
        XCTAssertEqual(script.seen.all.count, 4, "the question three times, and the upload")
        XCTAssertEqual(Set(script.seen.all).count, 2)
        XCTAssertEqual(script.seen.all.map(\.method), ["POST", "POST", "POST", "POST"])
        XCTAssertEqual(script.seen.all[0].contentType, "application/json")
        let again = try await machine.drive(script)
        XCTAssertEqual(again, Driven())
        try await machine.shutdown()
    }

    func testWhatBecameOfARequestIsTold() async throws {
        let machine = try await open(directory)
        func mark(_ answer: Answer) async throws -> RequestOutcome {
            try await until("there is a request") { try await !machine.outgoingRequests().isEmpty }
            let request = try await machine.outgoingRequests()[0]
            return try await machine.markRequestAsSent(id: request.id, answer: answer)
        }
        let (later, taken) = (try await mark(answer(429, #"{"retry_after_ms":7}"#)), try await mark(try await uploaded()))
        XCTAssertEqual(later, .retryLater(afterMs: 7))
        XCTAssertEqual(taken, .accepted)
        let again = try await mark(try await uploaded())
        XCTAssertEqual(again, .accepted)
        try await machine.room(roomId: testRoomId).enable(settings: RoomSettings())
        let refused = try await mark(answer(403, #"{"errcode":"M_FORBIDDEN","error":"not yours"}"#))
        XCTAssertEqual(refused, .refused(code: "M_FORBIDDEN", reason: "not yours"))
        try await machine.shutdown()
    }

    func testOfSeveralThatWerePutOffEachIsSentWhenItIsDue() async throws {
        let machine = try await open(directory)
        try await machine.drive(Script(uploaded))
        for roomId in ["!a:example.org", "!b:example.org"] {
            try await machine.room(roomId: roomId).enable(settings: RoomSettings())
        }
        func later(_ ms: Int) -> Script.Line { { answer(429, #"{"retry_after_ms":\#(ms)}"#) } }
        let script = Script(later(150), later(20), { answer(200, #"{"event_id":"$x"}"#) })
        let driven = try await machine.drive(script)
        XCTAssertGreaterThanOrEqual(driven.accepted, 2)
        XCTAssertEqual(driven.accepted, Set(script.seen.all.map(\.id)).count, "none was left")
        let left = try await machine.outgoingRequests()
        XCTAssertEqual(left, [])
        try await machine.shutdown()
    }

    func testARefusalIsToldAndNotRepeatedWithoutEnd() async throws {
        let machine = try await open(directory)
        try await machine.drive(Script(uploaded))
        try await machine.room(roomId: testRoomId).enable(settings: RoomSettings())
        let heard = try await Heard(machine)
        let script = Script { answer(403, #"{"errcode":"M_FORBIDDEN","error":"not yours"}"#) }
        let refused = try await machine.drive(script).refused
        XCTAssertTrue(refused.contains { $0.code == "M_FORBIDDEN" && $0.reason == "not yours" }, "\(refused)")
        XCTAssertEqual(Set(refused.map(\.path)), Set(script.seen.all.map(\.path)))
        let told = try await heard.first {
            if case .requestRefused(.enableEncryption, testRoomId, let code, let reason) = $0 { [code, reason] } else { nil }
        }
        XCTAssertEqual(told, ["M_FORBIDDEN", "not yours"])
        try await machine.shutdown()
    }

    func testCancelledWhileItWaitsItEndsAndTheRequestIsStillThere() async throws {
        let machine = try await open(directory)
        try await machine.drive(Script(uploaded))
        let room = try machine.room(roomId: testRoomId)
        try await room.enable(settings: RoomSettings())
        for useDrive in [true, false] {
            let script = Script(inAnHour)
            let task = Task {
                if useDrive { try await machine.drive(script) } else { try await machine.prepare(room, script) }
            }
            try await until("everything was put off") { try await machine.outgoingRequests().isEmpty }
            task.cancel()
            await assertCancelled(task)
        }
        // It is due later, also for whoever opens the store next.
        try await machine.shutdown()
        let next = try await open(directory)
        let plan = try await next.room(roomId: testRoomId).prepareToSend()
        guard case .waiting(requests: [], let wait?) = plan else {
            return XCTFail("\(plan)")
        }
        XCTAssertGreaterThan(wait, 3_000_000)
        try await next.shutdown()
    }

    func testCancelledWhileItSendsTheRequestIsHandedOutAgain() async throws {
        let machine = try await open(directory)
        let script = Script(noAnswer)
        let task = Task { try await machine.drive(script) }
        try await until("it is sent") { !script.seen.all.isEmpty }
        task.cancel()
        await assertCancelled(task)
        let requests = try await machine.outgoingRequests()
        XCTAssertEqual(requests, script.seen.all)
        try await machine.shutdown()
    }

    /// An HTTP client has errors of its own for being cancelled; they are no failed request.
    func testATransportThatReportsBeingCancelledInItsOwnWayIsUnderstood() async throws {
        let machine = try await open(directory)
        let script = Script {
            withUnsafeCurrentTask { $0?.cancel() }
            throw URLError(.cancelled)
        }
        await assertCancelled(Task { try await machine.drive(script) })
        let requests = try await machine.outgoingRequests()
        XCTAssertEqual(requests, script.seen.all)
        try await machine.shutdown()
    }

    func testACancelledTaskSendsNothing() async throws {
        let machine = try await open(directory)
        let script = Script(uploaded)
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            try await machine.drive(script)
        }
        await assertCancelled(task)
        XCTAssertEqual(script.seen.all, [])
        try await machine.shutdown()
    }

    func testWithoutAHomeserversAnswerPrepareWaitsAsThePlanSays() async throws {
        let machine = try await open(directory)
        try await machine.drive(Script(uploaded))
        let room = try machine.room(roomId: testRoomId)
        try await room.enable(settings: RoomSettings())
        let script = Script(noNetwork)
        let task = Task { try await machine.prepare(room, script) }
        try await until("it is sent") { !script.seen.all.isEmpty }
        task.cancel()
        await assertCancelled(task)
        // Nothing is lost: the network comes back.
        try await until("everything is sent") {
            try await machine.drive(Accepting())
            return try await room.prepareToSend() == .ready
        }
        try await machine.shutdown()
    }

    func testWhatPrepareWaitsForMayComeBySync() async throws {
        let machine = try await open(directory)
        let room = try await machine.enableAlone()
        try await room.rotateKeys()
        let transport = HourLong("/send/m.room.encrypted/")
        let preparing = Task { try await machine.prepare(room, transport) }
        try await until("the commit was put off") {
            if case .waiting(requests: [], let wait?) = try await room.prepareToSend() { wait > 3_000_000 } else { false }
        }
        // The commit had reached the homeserver all the same.
        let content = try readJson(try XCTUnwrap(transport.putOff.all.first).body)
        let commit: Json = [
            "type": "m.room.encrypted", "sender": ownUserId, "event_id": "$commit", "content": content,
        ]
        let results = try await room.receiveEvents(events: [String(decoding: try writeJson(commit), as: UTF8.self)])
        XCTAssertEqual(results.map(\.outcome), [.duplicate])
        try await preparing.value
        let plan = try await room.prepareToSend()
        XCTAssertEqual(plan, .ready)
        XCTAssertEqual(transport.putOff.all.count, 1)
        try await machine.shutdown()
    }

    func testWhatIsQueuedWhileDriveWaitsForSomethingElseIsSent() async throws {
        let machine = try await open(directory)
        let transport = HourLong("/keys/upload")
        let driving = Task { try await machine.drive(transport) }
        try await until("the keys were put off") { !transport.putOff.all.isEmpty }
        let room = try machine.room(roomId: testRoomId)
        try await room.enable(settings: RoomSettings())
        try await until("the loop that waits sends the announcement") {
            try await room.epochs().contains { $0.commitEvent != nil }
        }
        driving.cancel()
        await assertCancelled(driving)
        XCTAssertEqual(transport.putOff.all.count, 1)
        try await machine.shutdown()
    }

    /// Has the first request wait for long, as after a while without a network.
    private func putOffForLong(_ machine: MlsMachine) async throws -> String {
        let id = try await machine.outgoingRequests()[0].id
        for _ in 0..<6 { try await machine.markRequestAsSent(id: id, answer: answer(0, "")) }
        let pending = try await machine.pendingRequests()
        XCTAssertEqual([pending.due, pending.putOff], [0, 1])
        XCTAssertGreaterThan(try XCTUnwrap(pending.retryAfterMs), 20_000)
        return id
    }

    func testDriveWaitsForWhatEarlierCallsHavePutOffAndEndsTheWaitWhenTheNetworkIsBack() async throws {
        let machine = try await open(directory)
        let id = try await putOffForLong(machine)
        let script = Script(uploaded)
        let driving = Task { try await machine.drive(script) }
        try await Task.sleep(nanoseconds: 100_000_000)
        XCTAssertEqual(script.seen.all, [], "it waits")
        try await machine.networkAvailable()
        let driven = try await driving.value
        XCTAssertEqual(driven.accepted, 2)
        XCTAssertEqual(script.seen.all[0].id, id)
        let pending = try await machine.pendingRequests()
        XCTAssertNil(pending.retryAfterMs)
        try await machine.shutdown()
    }

    func testARefusedAccessTokenEndsWhatWaitsIsToldAndLosesNothing() async throws {
        let machine = try await open(directory)
        let heard = try await Heard(machine)
        let id = try await machine.outgoingRequests()[0].id
        let outcome = try await machine.markRequestAsSent(id: id, answer: try await tokenExpired())
        guard case .unauthorized("M_UNKNOWN_TOKEN", true, let after) = outcome else { return XCTFail("\(outcome)") }
        XCTAssertGreaterThan(after, 0)
        for _ in 0..<2 {
            try await fails("Unauthorized", "unauthorized") { try await machine.drive(Script(tokenExpired)) }
        }
        let told = try await heard.first {
            if case .unauthorized(let code, true) = $0 { code } else { nil }
        }
        XCTAssertEqual(told, "M_UNKNOWN_TOKEN")
        let waiting = try await machine.outgoingRequests()
        XCTAssertEqual(waiting, [], "no loop of an app's spins")
        try await machine.accessTokenRenewed()
        let given = try await machine.outgoingRequests()
        XCTAssertEqual(given.map(\.id), [id])
        let driven = try await machine.drive(Script(uploaded))
        XCTAssertEqual(driven.accepted, 2)
        try await machine.shutdown()
    }

    func testEncryptEndsWhenTheAccessTokenIsRefused() async throws {
        let machine = try await open(directory)
        let room = try await machine.enableAlone()
        try await room.rotateKeys()
        for _ in 0..<2 {
            try await fails("Unauthorized", "unauthorized") {
                try await machine.encrypt(
                    in: room, eventType: "m.room.message", content: "{}", transport: Script(tokenExpired))
            }
        }
        _ = try await machine.encrypt(in: room, eventType: "m.room.message", content: "{}", transport: Accepting())
        try await machine.shutdown()
    }

    func testADeviceWhoseKeysAreOthersOnTheHomeserverUploadsAndSendsNothing() async throws {
        let machine = try await open(directory)
        let heard = try await Heard(machine)
        let script = Script {
            answer(200, #"{"device_keys":{"@alice:example.org":{"PHONE":{"keys":{"ed25519:PHONE":"AAAA"}}}}}"#)
        }
        let driven = try await machine.drive(script)
        XCTAssertEqual(driven.accepted, 1)
        XCTAssertTrue(script.seen.all[0].path.hasSuffix("/keys/query"))
        let told = try await heard.first {
            if case .newDeviceNeeded(let reason) = $0 { reason } else { nil }
        }
        XCTAssertFalse(told.isEmpty)
        let room = try machine.room(roomId: testRoomId)
        try await fails("NewDeviceNeeded", "other_keys") { try await room.enable(settings: RoomSettings()) }
        try await fails("NewDeviceNeeded", "other_keys") { try await machine.prepare(room, script) }
        try await machine.shutdown()
    }

    private func assertCancelled<R>(_ task: Task<R, any Error>, line: UInt = #line) async {
        do {
            let result = try await task.value
            XCTFail("expected to be cancelled, got \(result)", line: line)
        } catch {
            XCTAssertTrue(error is CancellationError, "\(error)", line: line)
        }
    }
}
