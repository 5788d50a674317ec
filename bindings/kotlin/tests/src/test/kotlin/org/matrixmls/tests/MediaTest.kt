/** Values that stand in the media repository, as no event could hold them: they come and go as bytes. */
package org.matrixmls.tests

import java.security.MessageDigest
import java.util.Base64
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.matrixmls.EventOutcome
import org.matrixmls.MlsException
import org.matrixmls.OutgoingRequest
import org.matrixmls.ToDeviceResult
import org.matrixmls.code
import org.matrixmls.drive
import org.matrixmls.retryable
import org.matrixmls.sample.MatrixClient
import org.matrixmls.syncChangesFromResponse

class MediaTest {
    private suspend fun MatrixClient.exchange(
        method: String,
        path: String,
        contentType: String = "application/json",
        body: ByteArray = ByteArray(0),
    ): JSONObject {
        val answer = transport.send(OutgoingRequest("of no engine", method, path, contentType, body))
        return JSONObject(answer.body.decodeToString())
    }

    /** Uploads a value, and gives what an event has in its place. */
    private suspend fun upload(client: MatrixClient, value: ByteArray): JSONObject {
        val answer = client.exchange("POST", "/_matrix/media/v3/upload", "application/octet-stream", value)
        val url = answer.getString("content_uri")
        val hash = MessageDigest.getInstance("SHA-256").digest(value)
        return JSONObject().put("url", url).put("size", value.size)
            .put("sha256", Base64.getEncoder().withoutPadding().encodeToString(hash))
    }

    private fun assertAwaited(error: MlsException) {
        assertTrue(error is MlsException.UnknownEpoch, error.toString())
        assertEquals("value_in_media" to true, error.code to error.retryable)
    }

    @Test
    fun `a commit in the media repository waits for its download and is taken in`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        alice.machine.room(roomId).rotateKeys()
        alice.prepare(roomId)
        val commit = bob.events(roomId).last { it.getJSONObject("content").has("resolves") }
        val content = commit.getJSONObject("content")
        val value = Base64.getDecoder().decode(content.getString("ciphertext"))
        content.put("ciphertext", upload(alice, value))

        val room = bob.machine.room(roomId)
        val outcome = room.receiveEvents(listOf(commit.toString())).single().outcome
        assertAwaited((outcome as EventOutcome.Waiting).error)
        val request = bob.machine.outgoingRequests().single { it.path.contains("/media/download/") }
        assertEquals("GET" to 0, request.method to request.body.size)
        var answered = ByteArray(0)
        bob.machine.drive { sent -> bob.transport.send(sent).also { if (sent.id == request.id) answered = it.body } }
        assertArrayEquals(value, answered)
        val heads = listOf(alice, bob).map { client -> client.machine.room(roomId).epochs().single { it.isHead }.id }
        assertEquals(heads[0], heads[1])
        alice.close()
        bob.close()
    }

    @Test
    fun `a Welcome waits for a ratchet tree in the media repository`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = alice.createRoom(listOf(bob.userId))
        bob.join(roomId)
        alice.settle()
        alice.enable(roomId)
        alice.prepare(roomId)
        val response = bob.exchange("GET", "/_matrix/client/v3/sync?timeout=0")
        val welcome = response.getJSONObject("to_device").getJSONArray("events").getJSONObject(0)
        // A tree that is none: with a real one a device would be in, here it finds another way.
        welcome.getJSONObject("content").put("ratchet_tree", upload(alice, ByteArray(5_000) { it.toByte() }))
        // Only of a room whose state was shown, and whose members are known, a tree is fetched.
        response.remove("to_device")
        bob.machine.receiveSync(syncChangesFromResponse(response.toString(), null))
        val summary = bob.machine.receiveSync(sync(toDevice = listOf(welcome.toString())))
        assertAwaited((summary.toDevice.single() as ToDeviceResult.Waiting).error)
        assertTrue(bob.machine.outgoingRequests().any { it.method == "GET" && it.path.contains("/media/download/") })
        bob.settle()
        bob.send(roomId, "in after all")
        assertTrue(alice.settle().any { it.content.contains("in after all") })
        alice.close()
        bob.close()
    }
}
