// One device in a process of its own, told what to do a line at a time: what the scenario between languages runs.
// `Device URL DIRECTORY USER DEVICE`, then on standard input:
//
// `register` (prints the user's id), `log-in`, `settle`, `create-room USER_ID …`, `enable ROOM`, `join ROOM`, `kick ROOM USER_ID`, `prepare ROOM`,
// `rotate ROOM`, `send ROOM TEXT`, `head ROOM`, `look ROOM`, `read ROOM`, `back-up` (prints the recovery key), `restore KEY`,
// `sign-out DEVICE`, `make-identity`, `ask USER_ID` (to compare emojis), `answer`, `begin`, `emojis`, `confirm`, `verified` (prints
// whether the other is signed), `verdict USER_ID DEVICE`, `shields ROOM` (prints each message with its verdict), `quit`. Each answers
// with its result lines and then `ok`, or `failed` and why. Kotlin and Rust have the same program.

import Foundation
import MatrixClientSample
import MatrixMls

@main
struct Program {
    static func main() async {
        let arguments = Array(CommandLine.arguments.dropFirst())
        guard arguments.count == 4 else {
            FileHandle.standardError.write(Data("usage: Device URL DIRECTORY USER DEVICE\n".utf8))
            exit(2)
        }
        let directory = URL(fileURLWithPath: arguments[1], isDirectory: true)
        let key = StoreKey.raw(key: Data(repeating: 7, count: 32))
        let device = MatrixClient.Device(id: arguments[3], directory: directory, storeKey: key)
        let steps = Steps(url: arguments[0], user: arguments[2], device: device)
        while let line = readLine(), line != "quit" {
            // Whatever goes wrong is the answer: this is the program's outermost loop.
            do {
                try await steps.run(line)
                say("ok")
            } catch {
                say("failed \(oneLine(error))")
            }
        }
        await steps.close()
    }
}

/// The steps, and the client that the first of them made.
actor Steps {
    private let url: String
    private let user: String
    private let device: MatrixClient.Device
    private var client: MatrixClient?
    /// The id of the verification under way.
    private var verificationId: String?

    init(url: String, user: String, device: MatrixClient.Device) {
        self.url = url
        self.user = user
        self.device = device
    }

    func run(_ line: String) async throws {
        let words = split(line)
        switch (words[0], words.count) {
        case ("register", 1):
            client = try await .register(url, user: user, password: password, device: device)
            say("user \(try current().userId)")
            try await current().settle()
        case ("log-in", 1):
            client = try await .logIn(url, user: user, password: password, device: device)
        case ("settle", 1):
            try await current().settle()
        case ("create-room", _):
            say("room \(try await current().createRoom(invite: Array(words.dropFirst())))")
            try await current().settle()
        case ("enable", 2):
            try await current().enable(words[1])
        case ("join", 2):
            try await current().join(words[1])
        case ("kick", 3):
            try await current().kick(words[2], from: words[1])
        case ("prepare", 2):
            try await current().prepare(words[1])
        case ("rotate", 2):
            try await current().machine.room(roomId: words[1]).rotateKeys()
            try await current().prepare(words[1])
        case ("send", 3):
            try await current().send(words[2], to: words[1])
        case ("head", 2):
            head(try await current().machine.room(roomId: words[1]).epochs())
        case ("look", 2):
            try await look(words[1])
        case ("read", 2):
            try await read(words[1])
        case ("back-up", 1):
            say("key \(try await current().backUp())")
        case ("restore", _):
            try await restore(words.dropFirst().joined(separator: " "))
        case ("sign-out", 2):
            try await current().signOut(words[1], password: password)
        default:
            try await verify(words)
        }
    }

    /// The steps about who is who.
    private func verify(_ words: [String]) async throws {
        switch (words[0], words.count) {
        case ("make-identity", 1):
            try await current().makeIdentity()
        case ("ask", 2):
            verificationId = try await current().askToVerify(words[1])
        case ("answer", 1):
            verificationId = try await current().answerWhoAsks()
        case ("begin", 1):
            try await verification().startSas()
        case ("emojis", 1):
            say("emojis \(try await verification().emojis().joined(separator: " "))")
        case ("confirm", 1):
            try await verification().confirm()
        case ("verified", 1):
            say("signed \(try await verification().hasSigned())")
        case ("verdict", 3):
            let verdict = try await current().machine.deviceVerdict(userId: words[1], deviceId: words[2])
            say("verdict \(name(verdict))")
        case ("shields", 2):
            for entry in try await current().history(words[1]) {
                guard let message = entry.message, let text = entry.text else { continue }
                let sender = "\(message.senderUserId)|\(message.senderDeviceId)"
                say("shield \(sender) \(name(message.verdict)) \(text)")
            }
        default:
            throw StepError(description: "there is no step \(words.joined(separator: " "))")
        }
    }

    /// Prints the head, without looking for news.
    private func head(_ epochs: [EpochInfo]) {
        for head in epochs where head.isHead {
            say("epoch \(head.epoch) \(head.id)")
        }
    }

    /// Prints the head, the members and every message of the room.
    private func look(_ roomId: String) async throws {
        let client = try current()
        try await client.settle()
        let room = try client.machine.room(roomId: roomId)
        head(try await room.epochs())
        let members = try await room.members().map { "member \($0.userId)|\($0.deviceId)" }
        members.sorted().forEach(say)
        try await read(roomId)
    }

    /// Brings history back; what was left out is a failure.
    private func restore(_ typed: String) async throws {
        let restored = try await current().restore(typed)
        guard restored.failures.isEmpty else { throw StepError(description: "left out: \(restored.failures)") }
        say("restored \(restored.epochs)")
    }

    /// Prints every message of the room.
    private func read(_ roomId: String) async throws {
        for entry in try await current().history(roomId) {
            if let message = entry.message, let text = entry.text {
                say("text \(message.senderUserId)|\(message.senderDeviceId) \(text)")
            } else {
                say("unread \(entry.eventId)")
            }
        }
    }

    func close() async {
        do {
            try await client?.close()
        } catch {
            FileHandle.standardError.write(Data("closing: \(oneLine(error))\n".utf8))
        }
    }

    private func current() throws -> MatrixClient {
        guard let client else { throw StepError(description: "register or log-in comes first") }
        return client
    }

    private func verification() throws -> Verification {
        guard let verificationId else { throw StepError(description: "ask or answer comes first") }
        return try current().machine.verification(verificationId: verificationId)
    }

    /// A verdict, as every language prints it.
    private func name(_ verdict: Verdict) -> String { "\(verdict)".lowercased() }

    /// The password of every test account, so that another device can log in.
    private var password: String { "the password of \(user)" }
}

struct StepError: Error, CustomStringConvertible {
    let description: String
}

/// The words of a step; the text to send is one, with its spaces. Bytes, not characters, are what is looked at: a text
/// may begin with a mark that combines with the space before it.
private func split(_ line: String) -> [String] {
    let most = line.hasPrefix("send ") ? 2 : Int.max
    let space = UInt8(ascii: " ")
    return line.utf8.split(separator: space, maxSplits: most, omittingEmptySubsequences: false)
        .map { String(decoding: $0, as: UTF8.self) }
}

private func oneLine(_ error: any Error) -> String {
    let text = (error as? MlsError).map { "\($0.code): \($0.reason)" } ?? "\(error)"
    return String(String.UnicodeScalarView(text.unicodeScalars.map { $0 == "\n" ? " " : $0 }))
}

/// Prints a line at once: whoever gave the step waits for it.
@Sendable private func say(_ line: String) {
    FileHandle.standardOutput.write(Data("\(line)\n".utf8))
}
