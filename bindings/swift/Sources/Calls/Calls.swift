// What calls of the library cost from Swift: the same steps as `benches/calls.rs` and Kotlin's `Calls`, one call after the other.
// Prints a JSON line a figure.

import Foundation
import MatrixMls

let rounds = 2_000
/// A call of a microsecond is timed in runs of so many.
let atOnce = 100
let content = #"{"msgtype":"m.text","body":"forty-two characters are enough for a text"}"#

/// Who is in the room.
let members =
    #"{"chunk":[{"type":"m.room.member","state_key":"@alice:example.org","sender":"@alice:example.org","#
    + #""event_id":"$alice","content":{"membership":"join"}}]}"#

/// A sync that has no news and goes on where the last one ended.
let quiet = SyncChanges(
    start: .after(since: "s1"), nextBatch: "s1", deviceLists: DeviceListChanges(), followedRooms: .all)

/// A homeserver that takes everything, and has one user in its room.
struct Accepting: Transport {
    func send(_ request: OutgoingRequest) async throws -> Answer {
        let answer =
            if request.path.contains("/keys/upload") {
                #"{"one_time_key_counts":{}}"#
            } else if request.path.contains("/keys/query") {
                #"{"device_keys":{}}"#
            } else if request.path.contains("/members") {
                members
            } else {
                #"{"event_id":"$\#(request.id):example.org"}"#
            }
        return Answer(status: 200, body: Data(answer.utf8))
    }
}

@main
struct Calls {
    static func main() async throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: directory) }
        try await measure(directory)
    }
}

func measure(_ directory: URL) async throws {
    let machine = try await MlsMachine.open(
        config: MachineConfig(
            userId: "@alice:example.org", deviceId: "PHONE", storePath: directory.path,
            storeKey: .raw(key: Data(repeating: 7, count: 32)), publishing: .alone))
    let room = try await enableAlone(machine)

    await report("userId", calls: atOnce) {
        for _ in 0..<atOnce { _ = machine.userId() }
    }
    var sealed = ""
    try await report("encrypt") {
        sealed = try await room.encrypt(eventType: "m.room.message", content: content)
    }
    let event =
        #"{"type":"m.room.encrypted","event_id":"$message:example.org","#
        + #""sender":"@alice:example.org","content":\#(sealed)}"#
    try await report("decrypt") { _ = try await room.decrypt(event: event) }
    try await report("receiveSync") {
        _ = try await machine.receiveSync(changes: quiet)
    }
    try await machine.shutdown()
}

func enableAlone(_ machine: MlsMachine) async throws -> MlsRoom {
    // The first sync has the device lists asked for.
    _ = try await machine.receiveSync(changes: quiet)
    let room = try machine.room(roomId: "!calls:example.org")
    try await room.enable(settings: RoomSettings(rotateAfterMessages: 1_000_000))
    try await machine.drive(Accepting())
    try await machine.prepare(room, Accepting())
    return room
}

/// Measures `block`, which makes so many calls, and prints what one took.
func report(_ operation: String, calls: Int = 1, _ block: () async throws -> Void) async rethrows {
    var times: [UInt64] = []
    times.reserveCapacity(rounds)
    for _ in 0..<rounds {
        let start = DispatchTime.now().uptimeNanoseconds
        try await block()
        times.append((DispatchTime.now().uptimeNanoseconds - start) / UInt64(calls))
    }
    times.sort()
    func at(_ part: Int) -> Double { Double(times[times.count * part / 100] / 10) / 100 }
    print(
        #"{"part":"bindings","who":"Swift","operation":"\#(operation)","#
            + #""median_us":\#(at(50)),"p95_us":\#(at(95)),"runs":\#(times.count)}"#)
}
