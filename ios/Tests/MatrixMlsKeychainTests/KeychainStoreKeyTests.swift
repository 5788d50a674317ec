/// The logic over the Keychain, with one that lives in memory and ones that misbehave as the real one can.

import Foundation
import MatrixMls
import MatrixMlsKeychain
import XCTest

final class KeychainStoreKeyTests: XCTestCase, @unchecked Sendable {
    private func place(_ keychain: any Keychain, device: String = "PHONE", group: String? = nil) -> KeychainStoreKey {
        KeychainStoreKey(userId: "@alice:example.org", deviceId: device, accessGroup: group, keychain: keychain)
    }

    private func bytes(_ key: StoreKey) throws -> Data {
        guard case .raw(let bytes) = key else { throw KeychainError.malformed(reason: "it is not raw") }
        return bytes
    }

    func testTheKeyIsMadeOnceAndStays() throws {
        let keychain = MemoryKeychain()
        let key = try bytes(place(keychain).readOrCreate())
        XCTAssertEqual(key.count, 32)
        XCTAssertGreaterThan(Set(key).count, 8, "32 random bytes have more than 8 different ones")
        XCTAssertEqual(try bytes(place(keychain).readOrCreate()), key)
        XCTAssertEqual(try bytes(place(keychain).read()), key)
    }

    func testDevicesUsersAndGroupsHaveKeysOfTheirOwn() throws {
        let keychain = MemoryKeychain()
        let places = [
            place(keychain), place(keychain, device: "TABLET"), place(keychain, group: "TEAM.org.example"),
            KeychainStoreKey(userId: "@al", deviceId: "ice/PHONE", keychain: keychain),
            KeychainStoreKey(userId: "@al/ice", deviceId: "PHONE", keychain: keychain),
        ]
        let keys = try places.map { try bytes($0.readOrCreate()) }
        XCTAssertEqual(Set(keys).count, places.count)
        XCTAssertEqual(try places.map { try bytes($0.read()) }, keys)
    }

    func testAnExtensionFindsNoKeyAndMakesNone() throws {
        let keychain = MemoryKeychain()
        XCTAssertThrowsError(try place(keychain).read()) { XCTAssertEqual($0 as? KeychainError, .missing) }
        XCTAssertNil(keychain.read(place(keychain).item))
    }

    func testTheFirstOfTwoProcessesWins() throws {
        let keychain = RacingKeychain()
        let key = try bytes(place(keychain).readOrCreate())
        XCTAssertEqual(key, RacingKeychain.other, "the key of the process that was first")
        XCTAssertEqual(try bytes(place(keychain).read()), key)
    }

    func testManyAtOnceGetOneKey() async throws {
        let keychain = MemoryKeychain()
        let keys = try await withThrowingTaskGroup(of: StoreKey.self) { group in
            for _ in 0..<100 {
                group.addTask {
                    try KeychainStoreKey(userId: "@a:b", deviceId: "C", keychain: keychain).readOrCreate()
                }
            }
            return try await group.reduce(into: Set<StoreKey>()) { $0.insert($1) }
        }
        XCTAssertEqual(keys.count, 1)
    }

    func testALockedKeychainIsAnErrorAndNoNewKey() throws {
        let keychain = RefusingKeychain(status: -25308)
        for call in [place(keychain).readOrCreate, place(keychain).read] {
            XCTAssertThrowsError(try call()) {
                XCTAssertEqual($0 as? KeychainError, .locked(-25308))
                XCTAssertEqual(($0 as? KeychainError)?.retryable, true)
            }
        }
        XCTAssertEqual(keychain.added, 0)
    }

    func testAKeyOfAnotherLengthIsNeitherUsedNorReplaced() throws {
        let keychain = MemoryKeychain()
        let item = place(keychain).item
        try keychain.add(Data(repeating: 1, count: 31), as: item)
        let expected = KeychainError.malformed(reason: "it has 31 bytes, not 32")
        for call in [place(keychain).readOrCreate, place(keychain).read] {
            XCTAssertThrowsError(try call()) { XCTAssertEqual($0 as? KeychainError, expected) }
        }
        XCTAssertEqual(keychain.read(item)?.count, 31)
    }

    func testDeletingForgetsTheKey() throws {
        let keychain = MemoryKeychain()
        let key = try place(keychain).readOrCreate()
        try place(keychain).delete()
        try place(keychain).delete()
        XCTAssertThrowsError(try place(keychain).read()) { XCTAssertEqual($0 as? KeychainError, .missing) }
        XCTAssertNotEqual(try place(keychain).readOrCreate(), key)
    }

    func testStatusesAreErrorsThatSayWhatToDo() {
        let known: [OSStatus: KeychainError] = [
            -25300: .missing, -25299: .duplicate, -25308: .locked(-25308), -34018: .notEntitled(-34018),
            -50: .system(-50),
        ]
        for (status, error) in known {
            XCTAssertEqual(KeychainError(status: status), error)
            XCTAssertEqual(error.status, status)
            XCTAssertEqual(error.retryable, status == -25308)
            XCTAssertFalse(error.localizedDescription.isEmpty)
        }
        XCTAssertNil(KeychainError.malformed(reason: "").status)
    }

    func testTheKeyOpensAStoreAndAnotherDoesNot() async throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: directory) }
        let keychain = MemoryKeychain()
        func open() async throws {
            let config = MachineConfig(
                userId: "@alice:example.org", deviceId: "PHONE", storePath: directory.path,
                storeKey: try place(keychain).readOrCreate(), publishing: .alone)
            try await MlsMachine.open(config: config).shutdown()
        }
        try await open()
        try await open()
        try place(keychain).delete()
        do {
            try await open()
            XCTFail("a store opened with another key")
        } catch MlsError.StoreWrongKey {}
    }

    func testMemoryKeepsTheContractOfTheKeychain() throws {
        let keychain = MemoryKeychain()
        let item = KeychainItem(service: "s", account: "a")
        XCTAssertThrowsError(try keychain.replace(Data([1]), of: item)) {
            XCTAssertEqual($0 as? KeychainError, .missing)
        }
        try keychain.add(Data([1]), as: item)
        XCTAssertThrowsError(try keychain.add(Data([2]), as: item)) {
            XCTAssertEqual($0 as? KeychainError, .duplicate)
        }
        XCTAssertEqual(keychain.read(item), Data([1]))
        try keychain.replace(Data([3]), of: item)
        XCTAssertEqual(keychain.read(item), Data([3]))
    }
}

/// Another process adds its key between our reading and our adding.
private final class RacingKeychain: Keychain {
    static let other = Data(repeating: 9, count: 32)
    private let inner = MemoryKeychain()

    func read(_ item: KeychainItem) throws -> Data? { inner.read(item) }

    func add(_ secret: Data, as item: KeychainItem) throws {
        try inner.add(Self.other, as: item)
        try inner.add(secret, as: item)
    }

    func replace(_ secret: Data, of item: KeychainItem) throws { try inner.replace(secret, of: item) }
    func delete(_ item: KeychainItem) throws { inner.delete(item) }
}

/// Reads fail; adding is counted.
private final class RefusingKeychain: Keychain, @unchecked Sendable {
    let status: OSStatus
    // Used by one thread only.
    private(set) var added = 0

    init(status: OSStatus) { self.status = status }

    func read(_ item: KeychainItem) throws -> Data? { throw KeychainError(status: status) }
    func add(_ secret: Data, as item: KeychainItem) throws { added += 1 }
    func replace(_ secret: Data, of item: KeychainItem) throws { throw KeychainError(status: status) }
    func delete(_ item: KeychainItem) throws { throw KeychainError(status: status) }
}
