/**
 * A program as small as an app can be, for R8 to shrink: it makes a room, calls both ways over the
 * boundary, and reads its own message.
 */
package org.matrixmls.android.consumer

import java.nio.file.Files
import java.util.concurrent.atomic.AtomicInteger
import kotlinx.coroutines.runBlocking
import org.matrixmls.Answer
import org.matrixmls.LogLevel
import org.matrixmls.LogSink
import org.matrixmls.MachineConfig
import org.matrixmls.MlsException
import org.matrixmls.MlsMachine
import org.matrixmls.Publishing
import org.matrixmls.RoomSettings
import org.matrixmls.StoreKey
import org.matrixmls.Transport
import org.matrixmls.Update
import org.matrixmls.UpdateObserver
import org.matrixmls.code
import org.matrixmls.drive
import org.matrixmls.encrypt
import org.matrixmls.setLogSink
import org.matrixmls.use

/** Who is in the room. */
private const val MEMBERS = """{"chunk":[{"type":"m.room.member","state_key":"@alice:example.org",""" +
    """"sender":"@alice:example.org","event_id":"${'$'}alice","content":{"membership":"join"}}]}"""

fun main() = runBlocking {
    val calls = AtomicInteger()
    setLogSink(LogLevel.DEBUG, object : LogSink {
        override fun onLog(level: LogLevel, target: String, message: String) {
            calls.incrementAndGet()
        }
    })
    val homeserver = Transport { request ->
        val answer = when {
            request.path.contains("/keys/upload") -> """{"one_time_key_counts":{}}"""
            request.path.contains("/keys/query") -> """{"device_keys":{}}"""
            request.path.contains("/members") -> MEMBERS
            else -> """{"event_id":"${'$'}${request.id}"}"""
        }
        Answer(200, answer.toByteArray())
    }
    val directory = Files.createTempDirectory("consumer").toString()
    val config = MachineConfig("@alice:example.org", "PHONE", directory, StoreKey.Unprotected, Publishing.ALONE)
    MlsMachine.open(config).use { machine ->
        val subscription = machine.subscribe(object : UpdateObserver {
            override fun onUpdate(update: Update) {
                calls.incrementAndGet()
            }

            override fun onEnd() = Unit
        })
        val room = machine.room("!room:example.org")
        room.enable(RoomSettings())
        machine.drive(homeserver)
        val content = machine.encrypt(room, "m.room.message", """{"body":"shrunk"}""", homeserver)
        val event = """{"type":"m.room.encrypted","sender":"@alice:example.org","content":$content}"""
        println("decrypted ${room.decrypt(event).content}")
        try {
            machine.room("no room")
        } catch (error: MlsException) {
            println("failed ${error.code}")
        }
        while (calls.get() == 0) Thread.sleep(1)
        subscription.close()
        println("called back")
    }
}
