/** Messages through the generated code: what is in them, how many at once, and who else may read. */
package org.matrixmls.tests

import java.io.IOException
import java.nio.file.Files
import java.security.KeyPairGenerator
import java.security.Signature
import java.util.Base64
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.matrixmls.EventOutcome
import org.matrixmls.FollowStep
import org.matrixmls.MachineConfig
import org.matrixmls.MlsException
import org.matrixmls.MlsMachine
import org.matrixmls.MlsReader
import org.matrixmls.Publishing
import org.matrixmls.SendPlan
import org.matrixmls.UnreadableCause
import org.matrixmls.Verdict
import org.matrixmls.decrypt
import org.matrixmls.isCommitEvent
import org.matrixmls.unreadableCauseName

class MessagesTest {
    @Test
    fun `two machines of one process talk, and the room says who is in it`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        alice.send(roomId, "Hello, Bob")
        val message = bob.settle().single()
        assertEquals("Hello, Bob", JSONObject(message.content).getString("body"))
        assertEquals(alice.userId to "PHONE", message.senderUserId to message.senderDeviceId)
        assertEquals("m.room.message", message.eventType)
        bob.send(roomId, "Hello, Alice")
        assertEquals("Hello, Alice", JSONObject(alice.settle().last().content).getString("body"))

        val room = alice.machine.room(roomId)
        assertEquals(roomId, room.roomId())
        assertTrue(room.isEnabled())
        assertEquals(listOf(roomId), alice.machine.rooms())
        assertEquals(setOf(alice.userId, bob.userId), room.members().map { it.userId }.toSet())
        assertTrue(room.members().none { it.verdict == Verdict.CONFLICTING })
        assertEquals(listOf(true), room.members().filter { it.isOwnDevice }.map { it.userId == alice.userId })
        assertEquals(1, room.epochs().count { it.isHead })
        assertEquals(SendPlan.Ready, room.prepareToSend())

        bob.machine.room(roomId).leave()
        fails(MlsException.NotInGroup::class, "left_group") { bob.machine.room(roomId).members() }
        alice.close()
        bob.close()
    }

    @Test
    fun `any text survives, and so does a large one`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        val texts = listOf(
            "👩‍👩‍👧‍👦 🏳️‍🌈", "שלום עולם, مرحبا", "e\u0301\u0323 ≠ \u1EB9\u0301", "\u0000 and \u001F", "\"quoted\" \\ back\nslash\t",
            "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "\uFEFFmarked", "", "x".repeat(40_000),
        )
        for (text in texts) alice.send(roomId, text)
        bob.settle()
        val read = bob.history(roomId).map { JSONObject(it.message!!.content).getString("body") }
        assertEquals(texts, read)
        alice.close()
        bob.close()
    }

    @Test
    fun `a thousand operations at once all get their own answer`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        val (alices, bobs) = alice.machine.room(roomId) to bob.machine.room(roomId)
        val sealed = (0 until 500).map { number ->
            async {
                val content = alices.encryptReady(alice, """{"number":$number}""")
                number to JSONObject().put("type", "m.room.encrypted").put("sender", alice.userId)
                    .put("content", JSONObject(content)).toString()
            }
        }
        val others = (0 until 500).map { number ->
            async {
                when (number % 5) {
                    0 -> assertEquals(2, alices.members().size)
                    1 -> assertTrue(alices.epochs().isNotEmpty())
                    2 -> assertEquals(listOf(roomId), alice.machine.rooms())
                    3 -> alice.machine.outgoingRequests()
                    else -> assertTrue(alices.isEnabled())
                }
            }
        }
        val events = sealed.awaitAll()
        others.awaitAll()
        bob.settle()
        val read = events.map { (number, event) -> async { number to bobs.decrypt(event).content } }.awaitAll()
        for ((number, content) in read) assertEquals("""{"number":$number}""", content)
        alice.close()
        bob.close()
    }

    /** Encrypts; the room's settings have it renew its keys after every hundred messages. */
    private suspend fun org.matrixmls.MlsRoom.encryptReady(
        client: org.matrixmls.sample.MatrixClient,
        content: String,
    ): String {
        while (true) {
            try {
                return encrypt("m.test", content)
            } catch (_: MlsException.NotReady) {
                client.prepare(roomId())
            }
        }
    }

    @Test
    fun `events can be fed by room, in any order and twice`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        alice.send(roomId, "one")
        alice.machine.room(roomId).rotateKeys()
        alice.send(roomId, "two")
        val events = alice.events(roomId).map { it.toString() }
        val room = bob.machine.room(roomId)
        val early = room.receiveEvents(events.reversed()).map { it.outcome }
        assertTrue(EventOutcome.State in early && EventOutcome.Ignored in early, early.toString())
        assertTrue(EventOutcome.Commit(2u, emptyList(), emptyList()) in early, early.toString())
        val results = room.receiveEvents(events)
        assertEquals(events.size, results.size)
        val texts = results.mapNotNull { (it.outcome as? EventOutcome.Message)?.message?.content }
        assertEquals(listOf("one", "two"), texts.map { JSONObject(it).getString("body") })
        alice.close()
        bob.close()
    }

    @Test
    fun `what cannot be read says why, and commits are told from messages`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        alice.commit(roomId)
        alice.send(roomId, "a message")
        settle(bob)
        val events = bob.events(roomId).map { it.toString() }
        val message = bob.encryptedEvents(roomId).last().toString()
        assertTrue(!isCommitEvent(message))
        val redacted = JSONObject(message).put("content", JSONObject()).toString()
        val room = bob.machine.room(roomId)
        val causes = mapOf(
            events.last { isCommitEvent(it) } to (UnreadableCause.COMMIT to "commit"),
            redacted to (UnreadableCause.REDACTED to "redacted"),
        )
        for ((event, expected) in causes) {
            val error = fails(MlsException.Rejected::class, expected.second) { room.decrypt(event) }
            assertEquals(expected.first, error.unreadableCause())
            assertEquals(expected.second, unreadableCauseName(expected.first))
        }
        close(alice, bob)
    }

    @Test
    fun `a reader reads beside the machine`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        alice.send(roomId, "for the notification")
        val event = bob.encryptedEvents(roomId).last().toString()
        val reader = MlsReader.open(bob.store.toString(), KEY)
        assertTrue(reader.decrypt(roomId, event).content.contains("for the notification"))
        fails(MlsException.InvalidInput::class, "bad_room_id") { reader.decrypt("room", event) }
        bob.close()
        assertTrue(reader.decrypt(roomId, event).content.contains("for the notification"))
        reader.close()
        fails(MlsException.StoreWrongKey::class, "store_wrong_key") {
            MlsReader.open(bob.store.toString(), org.matrixmls.StoreKey.Raw(ByteArray(32)))
        }
        alice.close()
    }

    @Test
    fun `a reader reads what the machine has not synced yet`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        bob.settle()
        alice.commit(roomId)
        alice.send(roomId, "after a commit")
        val event = alice.encryptedEvents(roomId).last().toString()
        val reader = MlsReader.open(bob.store.toString(), KEY)
        fails(MlsException.UnknownEpoch::class, "unknown_epoch") { reader.decrypt(roomId, event) }
        val transport = bob.transport
        val message = reader.decrypt(roomId, event, transport)
        assertTrue(message.content.contains("after a commit"))

        // The same by hand.
        reader.follow(roomId, event).use { follower ->
            val step = follower.nextStep() as FollowStep.Send
            val answer = transport.send(step.requests.single())
            follower.markRequestAsSent(step.requests.single().id, answer.status.toUShort(), answer.body)
            val read = follower.nextStep() as FollowStep.Read
            assertEquals(message, read.message)
        }

        // Without a network it ends with a cause, and nothing is lost.
        fails(MlsException.UnknownEpoch::class, "follow_no_answer") {
            reader.decrypt(roomId, event) { throw IOException("no network") }
        }
        reader.suspend()
        fails(MlsException.Suspended::class, "suspended") { reader.decrypt(roomId, event, transport) }
        assertEquals("after a commit", JSONObject(bob.settle().last().content).getString("body"))
        reader.close()
        close(alice, bob)
    }

    @Test
    fun `an Olm machine signs the binding once`() = test {
        val directory = Files.createTempDirectory("matrix-mls-olm")
        val own = "@alice:example.org"
        val config = MachineConfig(own, "PHONE", directory.toString(), KEY, Publishing.BESIDE_OLM)
        val machine = MlsMachine.open(config)
        val text = checkNotNull(machine.bindingToSign())
                assertEquals(setOf("type", "user_id", "device_id", "mls_key"), JSONObject(text).keySet())

        // The Olm machine's key, and its `sign`, which signs with a master key as well.
        val pair = KeyPairGenerator.getInstance("Ed25519").generateKeyPair()
        val base64 = Base64.getEncoder().withoutPadding()
        // The last 32 bytes of the encoded form are the key.
        val deviceKey = base64.encodeToString(pair.public.encoded.takeLast(32).toByteArray())
        val signer = Signature.getInstance("Ed25519")
        signer.initSign(pair.private)
        signer.update(text.toByteArray())
        val signature = base64.encodeToString(signer.sign())
        val signatures = mapOf(own to mapOf("ed25519:PHONE" to signature, "ed25519:MASTER" to "AAAA"))
        val otherDevices = mapOf(own to mapOf("ed25519:TABLET" to signature))
        fails(MlsException.InvalidInput::class, "bad_binding") { machine.bindDevice(deviceKey, otherDevices) }
        machine.bindDevice(deviceKey, signatures)
        assertNull(machine.bindingToSign())
        machine.shutdown()

        val alone = account("alice")
        assertNull(alone.machine.bindingToSign())
        fails(MlsException.InvalidInput::class, "bad_binding") { alone.machine.bindDevice(deviceKey, signatures) }
        alone.close()
    }
}
