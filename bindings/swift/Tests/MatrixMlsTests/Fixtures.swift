// What the tests stand on: machines in directories of their own, accounts on the homeserver that the test command
// started, and the errors that are expected.

import Foundation
import MatrixClientSample
import XCTest

import MatrixMls

/// A test that stops the run when it hangs: XCTest would wait for ever.
class WatchedTestCase: XCTestCase {
    override func setUpWithError() throws {
        let name = name
        let watchdog = DispatchWorkItem { fatalError("\(name) hangs") }
        // Long enough for a slow machine; no test takes a tenth of it.
        DispatchQueue.global().asyncAfter(deadline: .now() + 120, execute: watchdog)
        addTeardownBlock { watchdog.cancel() }
    }
}

/// A test with a directory of its own, deleted in the end.
class DirectoryTestCase: WatchedTestCase {
    private(set) var directory = URL(fileURLWithPath: "/")

    override func setUpWithError() throws {
        try super.setUpWithError()
        directory = try newDirectory()
    }

    override func tearDownWithError() throws {
        try FileManager.default.removeItem(at: directory)
    }
}

func newDirectory() throws -> URL {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("matrix-mls-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    return directory
}

/// The homeserver of the test command.
func homeserver() throws -> String {
    guard let url = ProcessInfo.processInfo.environment["MATRIX_MLS_HOMESERVER"], !url.isEmpty else {
        throw TestError("MATRIX_MLS_HOMESERVER is not set: run these tests with `cargo xtask test`")
    }
    return url
}

struct TestError: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}

let testKey = StoreKey.raw(key: Data(repeating: 7, count: 32))
let ownUserId = "@alice:example.org"
let testRoomId = "!room:example.org"

func config(
    _ directory: URL, _ storeKey: StoreKey = testKey, userId: String = ownUserId, deviceId: String = "PHONE",
    publishing: Publishing = .alone, memberPolicy: MemberPolicy? = nil
) -> MachineConfig {
    MachineConfig(
        userId: userId, deviceId: deviceId, storePath: directory.path, storeKey: storeKey, publishing: publishing,
        memberPolicy: memberPolicy)
}

func open(_ directory: URL, _ storeKey: StoreKey = testKey) async throws -> MlsMachine {
    try await MlsMachine.open(config: config(directory, storeKey))
}

/// The homeserver's list of a room's members: these have joined.
func members(_ userIds: String...) throws -> Data {
    let events = userIds.map { userId -> Json in
        [
            "type": "m.room.member", "state_key": userId, "sender": userId, "event_id": "$join-\(userId)",
            "content": ["membership": "join"],
        ]
    }
    return try writeJson(["chunk": events])
}

/// A sync of an app that has all rooms by one connection, with what is given and nothing else.
func syncOf(
    toDevice: [String] = [], rooms: [RoomChanges] = [], connection: String = ""
) -> SyncChanges {
    SyncChanges(
        connection: connection, start: .after(since: "s1"), nextBatch: "s1", toDevice: toDevice,
        deviceLists: DeviceListChanges(), followedRooms: .all, rooms: rooms)
}

/// A homeserver that takes everything and has nothing; in each room is the user of these tests alone.
struct Accepting: Transport {
    func send(_ request: OutgoingRequest) async throws -> Answer {
        let body =
            if request.path.contains("/keys/upload") {
                #"{"one_time_key_counts":{}}"#
            } else if request.path.contains("/keys/query") {
                #"{"device_keys":{}}"#
            } else if request.path.contains("/media/v3/upload") {
                #"{"content_uri":"mxc://example.org/\#(UUID().uuidString)"}"#
            } else if request.path.contains("/members") {
                String(decoding: try members(ownUserId), as: UTF8.self)
            } else if request.path.contains("/messages") {
                #"{"chunk":[],"start":"s1"}"#
            } else if request.method == "GET" {
                #"{"errcode":"M_NOT_FOUND","error":"Not found"}"#
            } else {
                #"{"event_id":"$\#(UUID().uuidString)"}"#
            }
        return Answer(status: body.contains("errcode") ? 404 : 200, body: Data(body.utf8))
    }
}

extension MlsMachine {
    /// Makes a room's group without a homeserver: the device is alone in it.
    func enableAlone(_ roomId: String = testRoomId, _ settings: RoomSettings = RoomSettings()) async throws -> MlsRoom {
        let room = try room(roomId: roomId)
        try await room.enable(settings: settings)
        try await drive(Accepting())
        try await prepare(room, Accepting())
        return room
    }
}

/// A new account on the homeserver, its keys published.
func account(_ name: String) async throws -> MatrixClient {
    let client = try await accountThatNeverSynced(name)
    try await client.settle()
    return client
}

/// A new account on the homeserver, for a test that syncs in its own way.
func accountThatNeverSynced(_ name: String) async throws -> MatrixClient {
    let device = MatrixClient.Device(id: "PHONE", directory: try newDirectory(), storeKey: testKey)
    let user = "\(name)-\(UUID().uuidString.prefix(8).lowercased())"
    return try await MatrixClient.register(try homeserver(), user: user, password: "secret", device: device)
}

/// Another device of this user, with nothing in its store.
func anotherDevice(_ client: MatrixClient, _ id: String) async throws -> MatrixClient {
    let device = MatrixClient.Device(id: id, directory: try newDirectory(), storeKey: testKey)
    let user = String(client.userId.dropFirst().prefix { $0 != ":" })
    return try await MatrixClient.logIn(try homeserver(), user: user, password: "secret", device: device)
}

/// A room whose group has both devices in it.
func roomOf(_ alice: MatrixClient, _ bob: MatrixClient) async throws -> String {
    let roomId = try await alice.createRoom(invite: [bob.userId])
    try await bob.join(roomId)
    try await alice.settle()
    try await alice.enable(roomId)
    try await alice.prepare(roomId)
    try await bob.settle()
    return roomId
}

/// Closes accounts and deletes what they kept.
func finish(_ clients: MatrixClient...) async throws {
    for client in clients {
        try await client.close()
        try FileManager.default.removeItem(at: client.store.deletingLastPathComponent())
    }
}

/// The variant's name as api.txt has it. Without a default, so that a new variant does not compile.
func variant(_ error: MlsError) -> String {
    switch error {
    case .InvalidInput: "InvalidInput"
    case .StoreWrongKey: "StoreWrongKey"
    case .StoreDamaged: "StoreDamaged"
    case .StoreTooNew: "StoreTooNew"
    case .StoreFull: "StoreFull"
    case .StoreInUse: "StoreInUse"
    case .StoreIo: "StoreIo"
    case .Closed: "Closed"
    case .Suspended: "Suspended"
    case .Unauthorized: "Unauthorized"
    case .NewDeviceNeeded: "NewDeviceNeeded"
    case .NotInGroup: "NotInGroup"
    case .NotReady: "NotReady"
    case .UntrustedMembers: "UntrustedMembers"
    case .RoomReplaced: "RoomReplaced"
    case .TooLarge: "TooLarge"
    case .UnknownEpoch: "UnknownEpoch"
    case .Forked: "Forked"
    case .Rejected: "Rejected"
    case .Unsupported: "Unsupported"
    case .Internal: "Internal"
    }
}

/// The error must be of this variant and have this code.
func check(_ error: MlsError, _ expected: String, _ code: String, line: UInt = #line, file: StaticString = #filePath) {
    XCTAssertEqual(variant(error), expected, "\(error)", file: file, line: line)
    XCTAssertEqual(error.code, code, "\(error)", file: file, line: line)
    XCTAssertFalse(error.reason.isEmpty, "\(error)", file: file, line: line)
}

/// The call must fail with this variant and this code.
@discardableResult
func fails<R>(
    _ expected: String, _ code: String, line: UInt = #line, file: StaticString = #filePath, _ call: () async throws -> R
) async throws -> MlsError {
    do {
        let result = try await call()
        throw TestError("line \(line): expected \(expected), got \(result)")
    } catch let error as MlsError {
        check(error, expected, code, line: line, file: file)
        return error
    }
}

/// Comes back when the condition holds; a test that waits this long hangs, and fails.
func until(_ what: String, _ condition: () async throws -> Bool) async throws {
    for _ in 0..<60_000 {
        if try await condition() { return }
        try await Task.sleep(nanoseconds: 1_000_000)
    }
    throw TestError("waited in vain: \(what)")
}

/// What several tasks and threads write down.
final class Record<Element: Sendable>: @unchecked Sendable {
    private let lock = NSLock()
    private var elements: [Element] = []

    var all: [Element] { lock.withLock { elements } }

    func add(_ element: Element) {
        lock.withLock { elements.append(element) }
    }
}

/// What a machine tells, from when this was made until the machine is shut down.
final class Heard: Sendable {
    private let updates: Record<Update>
    private let subscription: UpdateSubscription

    private final class Observer: UpdateObserver {
        let updates = Record<Update>()

        func onUpdate(update: Update) { updates.add(update) }

        func onEnd() {}
    }

    init(_ machine: MlsMachine) async throws {
        let observer = Observer()
        updates = observer.updates
        subscription = try await machine.subscribe(observer: observer)
    }

    /// What there is in the first update of a kind; waits for it.
    func first<Part>(_ part: (Update) -> Part?) async throws -> Part {
        var found: Part?
        try await until("an update") {
            found = updates.all.lazy.compactMap(part).first
            return found != nil
        }
        return try XCTUnwrap(found)
    }
}

/// Hands requests to another transport, and keeps them and the answers.
struct Recording: Transport {
    let exchanges = Record<(OutgoingRequest, Answer)>()
    private let inner: any Transport

    init(_ inner: any Transport) {
        self.inner = inner
    }

    func send(_ request: OutgoingRequest) async throws -> Answer {
        let answer = try await inner.send(request)
        exchanges.add((request, answer))
        return answer
    }
}

/// The name of the thread that runs this.
func threadName() -> String {
    #if os(Linux)
        // The function for it is in a header that Glibc's module leaves out.
        return (try? String(contentsOfFile: "/proc/thread-self/comm", encoding: .utf8)) ?? ""
    #else
        var name = [CChar](repeating: 0, count: 64)
        pthread_getname_np(pthread_self(), &name, name.count)
        return String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    #endif
}

/// The `body` of a message.
func text(_ message: DecryptedMessage) throws -> String {
    try readJson(Data(message.content.utf8)).text("body")
}

/// The event that carries sealed content, as JSON.
func event(_ content: String, from sender: String) throws -> String {
    let content = try readJson(Data(content.utf8))
    let event: Json = ["type": "m.room.encrypted", "sender": sender, "content": content]
    return String(decoding: try writeJson(event), as: UTF8.self)
}

func head(_ client: MatrixClient, _ roomId: String) async throws -> EpochInfo {
    let heads = try await client.machine.room(roomId: roomId).epochs().filter(\.isHead)
    XCTAssertEqual(heads.count, 1)
    return try XCTUnwrap(heads.first)
}

/// Makes a commit on whatever this device has seen.
func commit(_ client: MatrixClient, _ roomId: String) async throws {
    try await client.machine.room(roomId: roomId).rotateKeys()
    try await client.prepare(roomId)
}

func settle(_ clients: MatrixClient...) async throws {
    for _ in 0..<3 {
        for client in clients { try await client.settle() }
    }
}

/// A homeserver with these members, that hands out this master key for one user.
final class WithIdentity: Transport, @unchecked Sendable {
    let user: String
    let members: Data
    var master: String

    init(of user: String, members: Data, master: String) {
        self.user = user
        self.members = members
        self.master = master
    }

    func send(_ request: OutgoingRequest) async throws -> Answer {
        if request.path.contains("/members") { return Answer(status: 200, body: members) }
        guard request.path.contains("/keys/query") else { return try await Accepting().send(request) }
        let key: Json = ["user_id": user, "usage": ["master"], "keys": ["ed25519:\(master)": master]]
        let nothing: Json = [:]
        return Answer(status: 200, body: try writeJson(["device_keys": nothing, "master_keys": [user: key]]))
    }
}
