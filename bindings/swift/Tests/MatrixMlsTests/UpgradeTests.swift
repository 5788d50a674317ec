// A room upgrade carries the group over.

import Foundation
import MatrixClientSample
import MatrixMls
import XCTest

final class UpgradeTests: DirectoryTestCase {
    private let oldRoom = "!old:example.org"
    private let newRoom = "!new:example.org"

    private func state(_ type: String, _ content: Json) throws -> String {
        let event: Json = [
            "type": type, "state_key": "", "sender": ownUserId, "event_id": "$\(type)-\(UUID().uuidString)",
            "content": content,
        ]
        return String(decoding: try writeJson(event), as: UTF8.self)
    }

    private func shown(_ machine: MlsMachine, _ roomId: String, _ state: [String]) async throws {
        _ = try await machine.receiveSync(
            changes: syncOf(rooms: [RoomChanges(roomId: roomId, state: state, limited: false)]))
    }

    private func tombstone() throws -> String {
        try state("m.room.tombstone", ["replacement_room": newRoom])
    }

    private func creation() throws -> String {
        try state("m.room.create", ["predecessor": ["room_id": oldRoom]])
    }

    func testTheRoomThatReplacesAnMlsRoomHasItsSettingsAndItsGroup() async throws {
        let machine = try await open(directory)
        let room = try await machine.enableAlone(oldRoom, RoomSettings(rotateAfterMessages: 7))
        let heard = try await Heard(machine)
        let algorithm = "org.matrix.msc2883.v1.dmls.dhkemx25519-aes128gcm-sha256-ed25519"
        let encryption = try state("m.room.encryption", ["algorithm": algorithm])
        try await shown(machine, newRoom, [try creation(), encryption])
        try await shown(machine, oldRoom, [try tombstone()])

        let replacement = try await heard.first {
            if case .roomReplaced(_, let replacement) = $0 { replacement } else { nil }
        }
        XCTAssertEqual(replacement, newRoom)
        let error = try await fails("RoomReplaced", "room_replaced") { try await room.prepareToSend() }
        guard case .RoomReplaced(let replacementRoomId, _) = error else { return XCTFail("\(error)") }
        XCTAssertEqual(replacementRoomId, newRoom)

        let predecessor = try await heard.first {
            if case .roomUpgraded(_, let predecessor) = $0 { predecessor } else { nil }
        }
        XCTAssertEqual(predecessor, oldRoom)
        let upgraded = try machine.room(roomId: newRoom)
        let settings = try await upgraded.settings()
        XCTAssertEqual(settings.rotateAfterMessages, 7)
        let upgrade = try await upgraded.upgrade()
        XCTAssertTrue(upgrade.isConfirmed)
        try await machine.drive(Accepting())
        try await machine.prepare(upgraded, Accepting())
        let members = try await upgraded.members()
        XCTAssertEqual(members.count, 1)
        try await machine.shutdown()
    }

    func testAReplacementWithoutMlsIsToldAndNothingIsSentThere() async throws {
        let machine = try await open(directory)
        _ = try await machine.enableAlone(oldRoom)
        let heard = try await Heard(machine)
        try await shown(machine, newRoom, [try creation()])
        try await shown(machine, oldRoom, [try tombstone()])
        let told = try await heard.first {
            if case .upgradeNotEncrypted(let room, _, let algorithm) = $0 { (room, algorithm) } else { nil }
        }
        XCTAssertEqual(told.0, newRoom)
        XCTAssertNil(told.1)
        let plain = try machine.room(roomId: newRoom)
        let upgrade = try await plain.upgrade()
        XCTAssertTrue(upgrade.isDowngrade)
        try await fails("NotInGroup", "downgraded") { try await plain.prepareToSend() }
        try await machine.shutdown()
    }
}
