// A defect of the engine must not take the app with it. The library of the tests has a hook, reached as a C symbol, that
// makes it panic; the generated code is the one that ships.

import Foundation
import MatrixMls
import XCTest

final class PanicTests: DirectoryTestCase {
    private enum Point: Int32 {
        case nextCommit = 0
        case nextCall = 1
    }

    private func panic(at point: Point) throws {
        typealias Hook = @convention(c) (Int32) -> Void
        guard let symbol = dlsym(dlopen(nil, RTLD_NOW), "matrix_mls_test_panic") else {
            throw TestError("this library was built without its test hooks: use `cargo xtask test`")
        }
        unsafeBitCast(symbol, to: Hook.self)(point.rawValue)
    }

    func testAPanicInTheMiddleOfAChangeArrivesAsAnErrorAndTheChangeDidNotHappen() async throws {
        let machine = try await open(directory)
        let room = try machine.room(roomId: testRoomId)
        try panic(at: .nextCommit)
        let error = try await fails("Internal", "panic") { try await room.enable(settings: RoomSettings()) }
        XCTAssertTrue(error.reason.contains("panic"), error.reason)
        let before = try await machine.rooms()
        XCTAssertEqual(before, [])
        try await room.enable(settings: RoomSettings())
        let after = try await machine.rooms()
        XCTAssertEqual(after, [testRoomId])
        try await machine.shutdown()
        let next = try await MlsMachine.with(config(directory)) { try await $0.rooms() }
        XCTAssertEqual(next, [testRoomId])
    }

    func testAPanicInACallThatDoesNotWaitArrivesToo() async throws {
        let machine = try await open(directory)
        try panic(at: .nextCall)
        XCTAssertThrowsError(try machine.room(roomId: testRoomId)) { error in
            XCTAssertTrue(error.localizedDescription.contains("a panic that a test asked for"), "\(error)")
        }
        XCTAssertEqual(try machine.room(roomId: testRoomId).roomId(), testRoomId)
        try await machine.shutdown()
    }
}
