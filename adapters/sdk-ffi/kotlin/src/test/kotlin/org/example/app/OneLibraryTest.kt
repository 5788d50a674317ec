/** An app whose one native library has matrix-sdk and matrix-mls inside, each in a package of its own. */
package org.example.app

import java.nio.file.Path
import kotlinx.coroutines.async
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.filterIsInstance
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.example.sdk.Client
import org.example.sdk.ClientException
import org.example.sdk.Message
import org.example.sdk.MessageListener
import org.example.sdk.Mls
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertInstanceOf
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import org.matrixmls.MachineConfig
import org.matrixmls.MlsException
import org.matrixmls.MlsMachine
import org.matrixmls.Publishing
import org.matrixmls.RoomSettings
import org.matrixmls.Shield
import org.matrixmls.StoreKey
import org.matrixmls.Update
import org.matrixmls.code
import org.matrixmls.updates
import org.matrixmls.use

class OneLibraryTest {
    @TempDir
    lateinit var directory: Path

    private val key = ByteArray(32) { 7 }

    private suspend fun register(name: String): Client {
        val homeserver = System.getenv("MATRIX_MLS_HOMESERVER") ?: error("run `cargo xtask test`")
        val place = directory.resolve(name).toString()
        return Client.register(homeserver, "$name-${System.nanoTime()}", "password", place, key)
    }

    @Test
    fun `the SDK and the machine share a room, and objects`() = test {
        val (alice, bob) = register("alice") to register("bob")
        val (ofAlice, ofBob) = alice.attachMls(key) to bob.attachMls(key)
        for (mls in listOf(ofAlice, ofBob)) mls.publishes()
        val heard = Heard()
        ofBob.listen(heard)
        // The machine that the adapter has attached, as an object of the other package.
        val machine = ofBob.machine()
        assertEquals(bob.userId(), machine.userId())
        val joined = async { machine.updates().filterIsInstance<Update.Joined>().first() }

        val roomId = alice.createRoom(listOf(bob.userId()!!))
        bob.joinRoom(roomId)
        val group = ofAlice.upgrade(roomId, RoomSettings())
        assertEquals(setOf(alice.userId(), bob.userId()), group.map { it.userId }.toSet())
        val eventId = ofAlice.sendText(roomId, "one library")

        val message = heard.messages.receive()
        assertEquals(listOf(eventId, "one library"), listOf(message.eventId, message.body))
        assertEquals(alice.userId(), message.sender)
        assertInstanceOf(Shield::class.java, message.shield)
        assertEquals(roomId, joined.await().roomId)
        assertEquals(2, machine.room(roomId).members().size)
        assertTrue(ofBob.usesMls(roomId))
        // Both packages have a type of this name.
        assertInstanceOf(org.example.sdk.VerificationState::class.java, bob.verificationState())
        assertEquals(emptyList<org.matrixmls.VerificationInfo>(), machine.verifications())

        ofAlice.detach()
        ofBob.detach()
        assertEquals("closed", assertThrows<MlsException> { machine.rooms() }.code)
    }

    @Test
    fun `errors of both packages arrive as what they are`() = test {
        val carol = register("carol")
        val mls = carol.attachMls(key)
        val refused = assertThrows<ClientException.Mls> { mls.sendText("!nowhere:example.org", "?") }
        assertEquals("not_enabled", refused.code)
        assertThrows<ClientException.Generic> { mls.usesMls("no room") }
        // The adapter has the store open.
        val second = MachineConfig(
            mls.machine().userId(), mls.machine().deviceId(), directory.resolve("carol/mls/store").toString(),
            StoreKey.Raw(key), Publishing.BESIDE_OLM,
        )
        val inUse = assertThrows<MlsException.StoreInUse> { MlsMachine.open(second) }
        assertTrue(inUse.message.startsWith("${inUse.code}: "), inUse.message)
        mls.detach()
        MlsMachine.open(second).use { machine -> assertEquals(emptyList<String>(), machine.rooms()) }
    }

    @Test
    fun `a machine works without the SDK`() = test {
        val config = MachineConfig(
            "@dora:example.org", "DEVICE", directory.resolve("dora").toString(), StoreKey.Raw(key), Publishing.ALONE,
        )
        MlsMachine.open(config).use { machine -> assertTrue(machine.outgoingRequests().isNotEmpty()) }
    }
}

/** Puts messages into a channel. */
private class Heard : MessageListener {
    val messages = Channel<Message>(Channel.UNLIMITED)

    override fun onMessage(message: Message) {
        messages.trySend(message)
    }
}

/** Waits until the device's keys are on the homeserver. */
private suspend fun Mls.publishes() {
    while (machine().outgoingRequests().isNotEmpty()) delay(100)
}

private fun test(block: suspend kotlinx.coroutines.CoroutineScope.() -> Unit) = runBlocking {
    withTimeout(300_000) { block() }
}
