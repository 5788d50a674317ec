// Recovery keys: their text, the passphrase form, secret storage, and what is told about mistakes.

import Foundation
import MatrixMls
import XCTest

final class KeyTests: WatchedTestCase {
    /// The key of the Matrix spec's examples.
    private let known = "EsTc LW2K PGiF wKEA 3As5 g5c4 BXwk qeeJ ZJV8 Q9fu gUMN UE4d"

    private func hex(_ bytes: Data) -> String {
        bytes.map { String(format: "%02x", $0) }.joined()
    }

    func testAKeyIsATextToWriteDownAndBytes() throws {
        let key = try RecoveryKey.generate()
        let text = key.text()
        XCTAssertEqual(text.split(separator: " ").map(\.count), Array(repeating: 4, count: 12))
        let typed = " \(text)\n".replacingOccurrences(of: " ", with: "\n")
        XCTAssertEqual(try RecoveryKey.parse(text: typed).bytes(), key.bytes())
        XCTAssertEqual(try RecoveryKey.fromBytes(bytes: key.bytes()).text(), text)
        XCTAssertFalse("\(key)".contains(text.prefix(4)), "\(key)")
        let parsed = try RecoveryKey.parse(text: known)
        XCTAssertEqual(hex(parsed.bytes()), "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
        XCTAssertEqual(parsed.text(), known)
    }

    func testWhatIsWrongWithAKeyIsTold() async throws {
        let mistakes = [
            (known.replacingOccurrences(of: "T", with: "0"), "recovery_key_alphabet"),
            (String(known.dropLast(5)), "recovery_key_length"),
            ("", "recovery_key_length"),
            (known.replacingOccurrences(of: "Es", with: "Et"), "recovery_key_prefix"),
            (known.replacingOccurrences(of: "E4d", with: "E4e"), "recovery_key_parity"),
        ]
        for (text, code) in mistakes {
            let error = try await fails("InvalidInput", code) { try RecoveryKey.parse(text: text) }
            XCTAssertFalse(error.reason.contains("LW2K"), error.reason)
        }
        try await fails("InvalidInput", "recovery_key_length") { try RecoveryKey.fromBytes(bytes: Data(count: 31)) }
        try await fails("InvalidInput", "empty_passphrase") { try await RecoveryKey.fromNewPassphrase(passphrase: "") }
        for rounds in [0, 99_999, 10_000_001, UInt32.max] {
            try await fails("InvalidInput", "bad_rounds") {
                try await RecoveryKey.fromPassphrase(passphrase: "a", salt: "salt", rounds: rounds)
            }
        }
    }

    func testAPassphraseStandsForAKey() async throws {
        // As Python's hashlib makes it.
        let key = try await RecoveryKey.fromPassphrase(
            passphrase: "It's a secret to everybody", salt: "salt", rounds: 100_000)
        XCTAssertTrue(hex(key.bytes()).hasPrefix("6189f90d3f486972ed7a953b"))
        let (one, other) = (
            try await RecoveryKey.fromNewPassphrase(passphrase: "correct horse"),
            try await RecoveryKey.fromNewPassphrase(passphrase: "correct horse")
        )
        XCTAssertNotEqual(one.text(), other.text(), "the salt is new each time")
    }

    func testSecretStorageHasTheKeyAsBytes() async throws {
        let key = try RecoveryKey.parse(text: known)
        let unpadded = key.bytes().base64EncodedString().prefix { $0 != "=" }
        XCTAssertEqual(try keyOfSecret(value: Data(unpadded.utf8)).text(), known)
        try await fails("InvalidInput", "bad_secret") { try keyOfSecret(value: Data([0xFF])) }
        try await fails("InvalidInput", "recovery_key_length") { try keyOfSecret(value: Data("AAAA".utf8)) }
    }
}
