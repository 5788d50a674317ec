// An app whose one native library has matrix-sdk and matrix-mls inside, each in a module of its own.

import Foundation
import MatrixMls
import SdkFfi
import XCTest

final class OneLibraryTests: XCTestCase {
    private let key = Data(repeating: 7, count: 32)
    private let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)

    override func tearDown() {
        try? FileManager.default.removeItem(at: directory)
    }

    private func register(_ name: String) async throws -> Client {
        let homeserver = try XCTUnwrap(
            ProcessInfo.processInfo.environment["MATRIX_MLS_HOMESERVER"], "run `cargo xtask test`")
        return try await Client.register(
            homeserver: homeserver, user: "\(name)-\(UUID().uuidString.lowercased())", password: "password",
            directory: directory.appendingPathComponent(name).path, storeKey: key)
    }

    func testTheSdkAndTheMachineShareARoomAndObjects() async throws {
        let (alice, bob) = (try await register("alice"), try await register("bob"))
        let (ofAlice, ofBob) = (try await alice.attachMls(storeKey: key), try await bob.attachMls(storeKey: key))
        for mls in [ofAlice, ofBob] { try await publish(mls) }
        let (messages, heard) = AsyncStream.makeStream(of: Message.self)
        await ofBob.listen(listener: Heard(heard))
        // The machine that the adapter has attached, as an object of the other module.
        let machine: MlsMachine = ofBob.machine()
        XCTAssertEqual(bob.userId(), machine.userId())
        let updates = try await machine.updates()

        let bobsId = try XCTUnwrap(bob.userId())
        let roomId = try await alice.createRoom(invited: [bobsId])
        try await bob.joinRoom(roomId: roomId)
        let group = try await ofAlice.upgrade(roomId: roomId, settings: RoomSettings())
        XCTAssertEqual(group.count, 2, "\(group)")
        let eventId = try await ofAlice.sendText(roomId: roomId, text: "one library")

        let first = await messages.first { _ in true }
        let message = try XCTUnwrap(first)
        XCTAssertEqual([message.eventId, message.body], [eventId, "one library"])
        XCTAssertEqual(message.sender, alice.userId())
        let shield: MatrixMls.Shield = message.shield
        XCTAssertNotNil(shield)
        let joined = await updates.first { if case .joined(roomId, _) = $0 { true } else { false } }
        XCTAssertNotNil(joined)
        let members = try await machine.room(roomId: roomId).members()
        XCTAssertEqual(members.count, 2)
        let usesMls = try await ofBob.usesMls(roomId: roomId)
        XCTAssertTrue(usesMls)
        // Both modules have a type of this name.
        let state: SdkFfi.VerificationState = bob.verificationState()
        XCTAssertTrue([.unknown, .verified, .unverified].contains(state))
        let verifications: [MatrixMls.VerificationInfo] = try await machine.verifications()
        XCTAssertEqual(verifications, [])

        try await ofAlice.detach()
        try await ofBob.detach()
        let error = await thrown { _ = try await machine.rooms() }
        XCTAssertEqual((error as? MlsError)?.code, "closed")
    }

    func testErrorsOfBothModulesArriveAsWhatTheyAre() async throws {
        let carol = try await register("carol")
        let mls = try await carol.attachMls(storeKey: key)
        let refused = await thrown { _ = try await mls.sendText(roomId: "!nowhere:example.org", text: "?") }
        guard case .Mls(let code, _)? = refused as? ClientError else { return XCTFail("\(refused as Any)") }
        XCTAssertEqual(code, "not_enabled")
        let unreadable = await thrown { _ = try await mls.usesMls(roomId: "no room") }
        guard case .Generic? = unreadable as? ClientError else { return XCTFail("\(unreadable as Any)") }
        // The adapter has the store open.
        let machine = mls.machine()
        let second = MachineConfig(
            userId: machine.userId(), deviceId: machine.deviceId(),
            storePath: directory.appendingPathComponent("carol/mls/store").path, storeKey: .raw(key: key),
            publishing: .besideOlm)
        let inUse = await thrown { _ = try await MlsMachine.open(config: second) }
        XCTAssertEqual((inUse as? MlsError)?.code, "store_in_use")
        try await mls.detach()
        let rooms = try await MlsMachine.with(second) { try await $0.rooms() }
        XCTAssertEqual(rooms, [])
    }

    func testAMachineWorksWithoutTheSdk() async throws {
        let config = MachineConfig(
            userId: "@dora:example.org", deviceId: "DEVICE", storePath: directory.appendingPathComponent("dora").path,
            storeKey: .raw(key: key), publishing: .alone)
        let requests = try await MlsMachine.with(config) { try await $0.outgoingRequests() }
        XCTAssertFalse(requests.isEmpty)
    }

    /// Waits until the device's keys are on the homeserver.
    private func publish(_ mls: Mls) async throws {
        while try await !mls.machine().outgoingRequests().isEmpty {
            try await Task.sleep(nanoseconds: 100_000_000)
        }
    }

    private func thrown(_ call: () async throws -> Void) async -> Error? {
        do {
            try await call()
            return nil
        } catch {
            return error
        }
    }
}

/// Puts messages into a stream.
private final class Heard: MessageListener {
    private let continuation: AsyncStream<Message>.Continuation

    init(_ continuation: AsyncStream<Message>.Continuation) {
        self.continuation = continuation
    }

    func onMessage(message: Message) {
        continuation.yield(message)
    }
}
