/**
 * One device in a process of its own, told what to do a line at a time: what the scenario between
 * languages runs. `Device URL DIRECTORY USER DEVICE`, then on standard input:
 *
 * `register` (prints the user's id), `log-in`, `settle`, `create-room USER_ID …`, `enable ROOM`, `join ROOM`, `kick ROOM USER_ID`,
 * `prepare ROOM`, `rotate ROOM`, `send ROOM TEXT`, `head ROOM`, `look ROOM`, `read ROOM`, `back-up` (prints the recovery key),
 * `restore KEY`, `sign-out DEVICE`, `make-identity`, `ask USER_ID` (to compare emojis), `answer`, `begin`, `emojis`, `confirm`,
 * `verified` (prints whether the other is signed), `verdict USER_ID DEVICE`, `shields ROOM` (prints each message with its verdict),
 * `quit`. Each answers with its result lines and then `ok` or `failed` and why.
 */
package org.matrixmls.sample

import java.nio.file.Path
import kotlinx.coroutines.runBlocking
import org.json.JSONObject
import org.matrixmls.EpochInfo
import org.matrixmls.StoreKey
import org.matrixmls.Verdict
import org.matrixmls.Verification

fun main(arguments: Array<String>) = runBlocking {
    require(arguments.size == 4) { "usage: Device URL DIRECTORY USER DEVICE" }
    val (url, directory, user, id) = arguments
    val steps = Steps(url, user, MatrixClient.Device(id, Path.of(directory), StoreKey.Raw(ByteArray(32) { 7 })))
    while (true) {
        val line = readlnOrNull() ?: break
        if (line == "quit") break
        // Whatever goes wrong is the answer: this is the program's outermost loop.
        val answer = runCatching { steps.run(line) }.fold({ "ok" }, { "failed ${it.toString().replace('\n', ' ')}" })
        println(answer)
    }
    steps.close()
}

private class Steps(private val url: String, private val user: String, private val device: MatrixClient.Device) {
    private var client: MatrixClient? = null

    /** The id of the verification under way. */
    private var verification: String? = null

    private fun client(): MatrixClient = checkNotNull(client) { "register or log-in comes first" }

    suspend fun close() {
        client?.close()
    }

    suspend fun run(line: String) {
        val words = line.split(' ')
        val room = words.getOrElse(1) { "" }
        when (words[0]) {
            "register" -> {
                client = MatrixClient.register(url, user, password(), device)
                println("user ${client().userId}")
                client().settle()
            }
            "log-in" -> client = MatrixClient.logIn(url, user, password(), device)
            "settle" -> client().settle()
            "create-room" -> println("room ${client().createRoom(words.drop(1))}")
            "enable" -> client().enable(room)
            "join" -> client().join(room)
            "kick" -> client().kick(room, words[2])
            "prepare" -> client().prepare(room)
            "rotate" -> {
                client().machine.room(room).rotateKeys()
                client().prepare(room)
            }
            "send" -> client().send(room, line.split(' ', limit = 3)[2])
            "head" -> head(client().machine.room(room).epochs())
            "look" -> look(room)
            "read" -> read(room)
            "back-up" -> println("key ${client().backUp()}")
            "restore" -> restore(line.substringAfter(' '))
            "sign-out" -> client().signOut(words[1], password())
            "make-identity" -> client().makeIdentity()
            "ask" -> verification = client().askToVerify(words[1])
            "answer" -> verification = client().answerWhoAsks()
            "begin" -> verification { it.startSas() }
            "emojis" -> verification { println("emojis ${it.emojis().joinToString(" ")}") }
            "confirm" -> verification { it.confirm() }
            "verified" -> verification { println("signed ${it.hasSigned()}") }
            "verdict" -> println("verdict ${name(client().machine.deviceVerdict(words[1], words[2]))}")
            "shields" -> shields(room)
            else -> error("there is no step ${words[0]}")
        }
    }

    /** Prints the head, without looking for news. */
    private fun head(epochs: List<EpochInfo>) {
        val head = epochs.single { it.isHead }
        println("epoch ${head.epoch} ${head.id}")
    }

    /** Prints the head, the members and every message of the room. */
    private suspend fun look(roomId: String) {
        client().settle()
        val room = client().machine.room(roomId)
        head(room.epochs())
        room.members().map { "member ${it.userId}|${it.deviceId}" }.sorted().forEach(::println)
        read(roomId)
    }

    /** Brings history back; what was left out is a failure. */
    private suspend fun restore(typed: String) {
        val restored = client().restore(typed)
        check(restored.failures.isEmpty()) { "left out: ${restored.failures}" }
        println("restored ${restored.epochs}")
    }

    /** Prints every message of the room. */
    private suspend fun read(roomId: String) {
        for (event in client().history(roomId)) {
            val message = event.message
            if (message == null) {
                println("unread ${event.eventId}")
            } else {
                val text = JSONObject(message.content).getString("body")
                println("text ${message.senderUserId}|${message.senderDeviceId} $text")
            }
        }
    }

    /** Prints every message of the room that can be read, with what is known of its sender. */
    private suspend fun shields(roomId: String) {
        for (message in client().history(roomId).mapNotNull { it.message }) {
            val text = JSONObject(message.content).getString("body")
            println("shield ${message.senderUserId}|${message.senderDeviceId} ${name(message.verdict)} $text")
        }
    }

    /** A verdict, as every language prints it. */
    private fun name(verdict: Verdict) = verdict.name.replace("_", "").lowercase()

    private suspend fun verification(action: suspend (Verification) -> Unit) {
        val id = checkNotNull(verification) { "ask or answer comes first" }
        client().machine.verification(id).use { action(it) }
    }

    private fun password() = "the password of $user"
}
