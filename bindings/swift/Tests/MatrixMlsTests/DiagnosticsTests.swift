// The report for a rageshake.

import Foundation
import MatrixMls
import XCTest

final class DiagnosticsTests: DirectoryTestCase {
    func testAReportNamesWhatThereIsAndNoIdAndNoText() async throws {
        let (config, transport, roomId) = (config(directory), Accepting(), testRoomId)
        try await MlsMachine.with(config) { machine in
            try await machine.drive(transport)
            let room = try machine.room(roomId: roomId)
            try await room.enable(settings: RoomSettings())
            _ = try await machine.encrypt(
                in: room, eventType: "m.room.message", content: #"{"msgtype":"m.text","body":"a secret"}"#,
                transport: transport)

            let report = try await machine.diagnostics()
            let reader = try await MlsReader.open(storePath: config.storePath, storeKey: config.storeKey)
            let beside = try await reader.diagnostics()
            for json in [report.json, beside.json] {
                XCTAssertTrue(json.contains(#""standing":"member""#), json)
            }
            XCTAssertTrue(report.json.contains(#""encrypt":{"count":1,"#), report.json)
            XCTAssertTrue(beside.json.contains(#""calls":null"#), beside.json)
            for text in [report.text, report.json, beside.text, beside.json] {
                for secret in [roomId, "example.org", "a secret", machine.userId(), machine.deviceId()] {
                    XCTAssertFalse(text.contains(secret), "\(secret) is in \(text)")
                }
            }
        }
    }
}
