/// Models on a real homeserver, each with a folder and a Keychain of its own, and waiting for what they show.
///
/// The test classes of this package are `@unchecked Sendable` because the list of tests that SwiftPM generates on Linux wants it in the
/// Swift 6 language mode. XCTest runs one test of an instance and nothing beside it.

import Foundation
import MatrixMlsKeychain
import XCTest

@testable import MatrixMlsSampleModel

/// An installed app: what stays when it is restarted.
@MainActor
final class Installation {
    let places = Places(folder: FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString))
    let keychain = MemoryKeychain()
    let user: String
    let password = "correct horse battery staple"

    init(_ name: String) {
        user = "\(name)-\(UUID().uuidString.prefix(8))".lowercased()
    }

    var vault: Vault { Vault(keychain: keychain, accessGroup: "TEAM.org.example.chat") }

    func model() -> SampleModel { SampleModel(places: places, vault: vault) }

    /// A model that has registered, has its identity, and runs.
    func registered() async throws -> SampleModel {
        let model = model()
        await model.start()
        await model.register(homeserver: try homeserver(), user: user, password: password)
        XCTAssertNil(model.state.problem)
        XCTAssertEqual(model.state.phase, .running)
        try await eventually(model, shows: "its identity") { $0.identity == .complete }
        return model
    }

    func remove() { try? FileManager.default.removeItem(at: places.folder) }
}

/// Runs a test where the model lives. The test's own method cannot be isolated: on Linux the generated list of tests
/// refers to it from outside.
@MainActor
func onMainActor(_ test: @MainActor () async throws -> Void) async throws {
    try await test()
}

/// The base URL of the homeserver to test against.
func homeserver() throws -> String {
    let address = ProcessInfo.processInfo.environment["MATRIX_MLS_HOMESERVER"] ?? ""
    return try XCTUnwrap(
        address.isEmpty ? nil : address,
        "these tests need a homeserver: set MATRIX_MLS_HOMESERVER to its base URL")
}

/// Something did not happen in time.
struct Patience: Error, CustomStringConvertible {
    let what: String
    let state: String

    var description: String { "waited in vain for \(what); the state was \(state)" }
}

/// Waits until a model shows something. The deadline is only there to end a test that would never end.
@MainActor
func eventually(
    _ model: SampleModel, shows what: String, until: @escaping @Sendable (SampleState) -> Bool
) async throws {
    let states = model.states()
    let last = try await withThrowingTaskGroup(of: Bool.self) { group in
        group.addTask {
            for await state in states where until(state) { return true }
            return false
        }
        group.addTask {
            try await Task.sleep(nanoseconds: 30_000_000_000)
            return false
        }
        defer { group.cancelAll() }
        return try await group.next() ?? false
    }
    if !last { throw Patience(what: what, state: "\(model.state)") }
}

/// Two people in a room: Alice made it, Bob was invited, has joined, and both look at it.
@MainActor
func twoInARoom(
    _ alice: SampleModel, _ bob: SampleModel, name: String = "Tea"
) async throws -> String {
    let bobId = try XCTUnwrap(bob.state.userId)
    let created = await alice.createRoom(name: name, invite: [bobId])
    let roomId = try XCTUnwrap(created, alice.state.problem ?? "")
    try await eventually(bob, shows: "the invitation") { $0.rooms.contains { $0.id == roomId && $0.isInvitation } }
    await bob.join(roomId)
    try await eventually(bob, shows: "the joined room") { $0.rooms.contains { $0.id == roomId && !$0.isInvitation } }
    try await eventually(alice, shows: "the MLS room") {
        $0.rooms.contains { $0.id == roomId && $0.usesMls && $0.name == name }
    }
    try await eventually(alice, shows: "Bob in the room") { $0.has(bobId, in: roomId) }
    await alice.openTimeline(roomId)
    await bob.openTimeline(roomId)
    return roomId
}

extension SampleState {
    /// Whether a user is known to have joined a room.
    func has(_ userId: String, in roomId: String) -> Bool {
        rooms.contains { $0.id == roomId && $0.joined.contains(userId) }
    }

    /// The readable texts of a room, oldest first.
    func texts(_ roomId: String) -> [String] {
        (timelines[roomId] ?? []).compactMap { row in
            if case .text(let text) = row.content { return text }
            return nil
        }
    }
}
