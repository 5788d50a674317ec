/**
 * What calls of the library cost from Kotlin: the same steps as `benches/calls.rs` and Swift's `Calls`, one call after the
 * other. Prints a JSON line a figure.
 */
package org.matrixmls.calls

import java.nio.file.Files
import java.nio.file.Path
import kotlin.io.path.ExperimentalPathApi
import kotlin.io.path.deleteRecursively
import kotlinx.coroutines.runBlocking
import org.matrixmls.Answer
import org.matrixmls.DeviceListChanges
import org.matrixmls.FollowedRooms
import org.matrixmls.MachineConfig
import org.matrixmls.MlsMachine
import org.matrixmls.MlsRoom
import org.matrixmls.Publishing
import org.matrixmls.RoomSettings
import org.matrixmls.StoreKey
import org.matrixmls.SyncChanges
import org.matrixmls.SyncStart
import org.matrixmls.Transport
import org.matrixmls.drive
import org.matrixmls.prepare
import org.matrixmls.use

private const val ROUNDS = 2_000

/** A call of a microsecond is timed in runs of so many. */
private const val AT_ONCE = 100
private const val CONTENT = """{"msgtype":"m.text","body":"forty-two characters are enough for a text"}"""

/** Who is in the room. */
private const val MEMBERS = """{"chunk":[{"type":"m.room.member","state_key":"@alice:example.org",""" +
    """"sender":"@alice:example.org","event_id":"${'$'}alice","content":{"membership":"join"}}]}"""

/** A sync that has no news and goes on where the last one ended. */
private val QUIET = SyncChanges(
    start = SyncStart.After("s1"), nextBatch = "s1", deviceLists = DeviceListChanges(), followedRooms = FollowedRooms.All,
)

/** A homeserver that takes everything, and has one user in its room. */
private val accepting = Transport { request ->
    val answer = when {
        request.path.contains("/keys/upload") -> """{"one_time_key_counts":{}}"""
        request.path.contains("/keys/query") -> """{"device_keys":{}}"""
        request.path.contains("/members") -> MEMBERS
        else -> """{"event_id":"$${request.id}:example.org"}"""
    }
    Answer(200, answer.toByteArray())
}

@OptIn(ExperimentalPathApi::class)
fun main() {
    val directory = Files.createTempDirectory("matrix-mls-calls")
    try {
        runBlocking { measure(directory) }
    } finally {
        directory.deleteRecursively()
    }
}

private suspend fun measure(directory: Path) {
    val config = MachineConfig(
        "@alice:example.org", "PHONE", directory.toString(), StoreKey.Raw(ByteArray(32) { 7 }), Publishing.ALONE,
    )
    MlsMachine.open(config).use { machine ->
        val room = machine.enableAlone()
        // The first rounds are the virtual machine's, which compiles meanwhile.
        for (isMeant in listOf(false, true)) {
            val report = { operation: String, times: LongArray -> if (isMeant) print(operation, times) }
            report("userId", times(AT_ONCE) { repeat(AT_ONCE) { machine.userId() } })
            var sealed = ""
            report("encrypt", times { sealed = room.encrypt("m.room.message", CONTENT) })
            val event = """{"type":"m.room.encrypted","event_id":"${'$'}message:example.org",""" +
                """"sender":"@alice:example.org","content":$sealed}"""
            report("decrypt", times { room.decrypt(event) })
            report("receiveSync", times { machine.receiveSync(QUIET) })
        }
    }
}

private suspend fun MlsMachine.enableAlone(): MlsRoom {
    // The first sync has the device lists asked for.
    receiveSync(QUIET)
    val room = room("!calls:example.org")
    room.enable(RoomSettings(rotateAfterMessages = 1_000_000u))
    drive(accepting)
    prepare(room, accepting)
    return room
}

/** Nanoseconds that one of the calls took, sorted. */
private inline fun times(calls: Int = 1, block: () -> Unit): LongArray {
    val times = LongArray(ROUNDS) {
        val start = System.nanoTime()
        block()
        (System.nanoTime() - start) / calls
    }
    times.sort()
    return times
}

private fun print(operation: String, times: LongArray) {
    val at = { part: Int -> times[times.size * part / 100] / 10 / 100.0 }
    println(
        """{"part":"bindings","who":"Kotlin","operation":"$operation",""" +
            """"median_us":${at(50)},"p95_us":${at(95)},"runs":${times.size}}""",
    )
}
