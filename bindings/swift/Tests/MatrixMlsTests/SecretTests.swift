// That nothing that prints shows a secret or a message: descriptions, mirrors, errors, log lines.

import Foundation
import MatrixClientSample
import MatrixMls
import XCTest

final class SecretTests: DirectoryTestCase {
    /// All that Swift can print of a value.
    private func printed(_ value: Any) -> [String] {
        var dumped = ""
        dump(value, to: &dumped)
        return [String(describing: value), String(reflecting: value), "\(value)", dumped]
    }

    /// The error of a call that must fail, printed.
    private func printed<R>(_ call: () async throws -> R) async throws -> [String] {
        do {
            let result = try await call()
            throw TestError("no error, but \(type(of: result))")
        } catch let error as MlsError {
            return printed(error as Any) + [error.localizedDescription]
        }
    }

    func testNoTextOfAValueAnErrorOrALogLineHasASecretInIt() async throws {
        let lines = Lines()
        try setLogSink(level: .debug, sink: lines)
        let rawKey = Data("0123456789-secret-key-0123456789".utf8)
        let (raw, passphrase) = (StoreKey.raw(key: rawKey), StoreKey.passphrase(passphrase: "the secret passphrase"))
        let key = try RecoveryKey.generate()
        let said = "the secret message"
        var all: [String] = []
        let machine = try await open(directory, raw)
        let room = try await machine.enableAlone()
        let sealed = try await room.encrypt(eventType: "m.room.message", content: #"{"body":"\#(said)"}"#)
        let message = try await room.decrypt(event: try event(sealed, from: ownUserId))
        XCTAssertTrue(message.content.contains(said))
        all += printed(message)
        all += printed(EventResult(eventId: "$a", outcome: .message(message: message)))
        all += try await printed { try await room.encrypt(eventType: "m.room.message", content: said) }
        let backup = machine.backup()
        try await backup.create(key: key, replace: false)
        all += printed(try await machine.outgoingRequests())
        all += try await printed { try await backup.importHistory(text: said, passphrase: "the secret passphrase") }
        try await machine.changeStoreKey(newKey: passphrase)
        try await machine.shutdown()
        try setLogSink(level: .debug, sink: nil)
        all += printed(raw) + printed(passphrase) + printed([raw]) + printed(config(directory, passphrase))
        all += printed(key) + printed(BackupSecret(name: "m.name", value: Data(key.text().utf8)))
        all += printed(ExportedSecret(secret: rawKey, epoch: 7, epochId: "00"))
        all += printed(Answer(status: 200, body: Data("secret".utf8)))
        all += try await printed { try RecoveryKey.parse(text: String(key.text().dropLast())) }
        all += try await printed { try await open(self.directory, .passphrase(passphrase: "another secret passphrase")) }
        all += lines.all.all
        let text = key.text()
        let secrets = [
            "secret", text, text.filter { $0 != " " }, String(text.prefix(12)), "\([UInt8](key.bytes()))",
            key.bytes().map { String(format: "%02x", $0) }.joined(), rawKey.base64EncodedString(),
        ]
        XCTAssertGreaterThan(all.count, 40)
        for secret in secrets {
            let with = all.filter { $0.contains(secret) }
            XCTAssertTrue(with.isEmpty, "\(secret) in \(with)")
        }
        XCTAssertTrue(all.contains("StoreKey.Passphrase(..)"), "\(all)")
    }
}
