// What the README tells an app to do, in its order and its words.

import Foundation
import MatrixMls
import XCTest

final class FirstStepsTests: DirectoryTestCase {
    func testTheStepsOfTheReadme() async throws {
        let (config, transport, roomId) = (config(directory), Accepting(), testRoomId)
        let (since, syncBody): (String?, String) = (nil, #"{"next_batch":"s1","rooms":{"join":{}}}"#)
        let seen = Record<Update>()
        let content = try await MlsMachine.with(config) { machine in
            let updates = try await machine.updates()
            let watching = Task { for await update in updates { seen.add(update) } }

            try await machine.drive(transport)
            let summary = try await machine.receiveSync(changes: .fromSyncResponse(syncBody, since: since))
            XCTAssertEqual(summary, SyncSummary(rooms: [], toDevice: []))

            let room = try machine.room(roomId: roomId)
            try await room.enable(settings: RoomSettings())
            let content = try await machine.encrypt(
                in: room, eventType: "m.room.message", content: #"{"msgtype":"m.text","body":"Hello"}"#,
                transport: transport)
            try await machine.shutdown()
            await watching.value
            return content
        }
        XCTAssertEqual(seen.all.first, .joined(roomId: testRoomId, epoch: 0))
        XCTAssertTrue(content.contains("ciphertext"), content)
    }
}
