/** Every variant of [MlsException], caught by its type, with its code. */
package org.matrixmls.tests

import java.nio.file.Files
import java.nio.file.Path
import kotlin.io.path.readLines
import kotlin.io.path.writeBytes
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.matrixmls.ErrorDetails
import org.matrixmls.EventOutcome
import org.matrixmls.MlsException
import org.matrixmls.MlsMachine
import org.matrixmls.MlsReader
import org.matrixmls.RoomSettings
import org.matrixmls.SendPlan
import org.matrixmls.StoreKey
import org.matrixmls.ToDeviceResult
import org.matrixmls.code
import org.matrixmls.markRequestAsSent
import org.matrixmls.prepare
import org.matrixmls.reason
import org.matrixmls.retryable
import org.matrixmls.syncChangesFromResponse
import org.matrixmls.syncChangesFromSlidingSync
import org.matrixmls.use

class ErrorsTest {
    @TempDir
    lateinit var directory: Path

    @Test
    fun `a wrong argument is named`() = test {
        open(directory).use { machine ->
            val room = machine.room("!room:example.org")
            val errors = listOf(
                "user_id" to fails(MlsException.InvalidInput::class, "bad_user_id") {
                    MlsMachine.open(config(directory.resolve("a"), userId = "alice"))
                },
                "device_id" to fails(MlsException.InvalidInput::class, "bad_device_id") {
                    MlsMachine.open(config(directory.resolve("a"), deviceId = ""))
                },
                "store_key" to fails(MlsException.InvalidInput::class, "bad_store_key") {
                    open(directory.resolve("a"), StoreKey.Raw(ByteArray(31)))
                },
                "room_id" to fails(MlsException.InvalidInput::class, "bad_room_id") { machine.room("room") },
                "user_ids" to fails(MlsException.InvalidInput::class, "bad_user_id") { room.setMembers(listOf("bob")) },
                "settings" to fails(MlsException.InvalidInput::class, "bad_settings") {
                    room.enable(RoomSettings(rotateAfterMessages = 0u))
                },
                "kept_epochs" to fails(MlsException.InvalidInput::class, "bad_settings") {
                    room.setSettings(RoomSettings(keptEpochs = UInt.MAX_VALUE))
                },
                "content" to fails(MlsException.InvalidInput::class, "bad_content") {
                    room.encrypt("m.room.message", "[]")
                },
                "event" to fails(MlsException.InvalidInput::class, "not_encrypted") {
                    room.decrypt("""{"type":"m.room.message","sender":"@a:b","content":{}}""")
                },
                "id" to fails(MlsException.InvalidInput::class, "bad_request_id") {
                    machine.markRequestAsSent("first", 200, ByteArray(0))
                },
                "status" to fails(MlsException.InvalidInput::class, "bad_status") {
                    machine.markRequestAsSent("1", -1, ByteArray(0))
                },
                "sync response" to fails(MlsException.InvalidInput::class, "bad_sync_response") {
                    syncChangesFromResponse("[]", since = null)
                },
                "sync response" to fails(MlsException.InvalidInput::class, "bad_sync_response") {
                    syncChangesFromResponse("""{"errcode":"M_UNKNOWN_TOKEN"}""", since = "s1")
                },
                "sliding sync response" to fails(MlsException.InvalidInput::class, "bad_sync_response") {
                    syncChangesFromSlidingSync("{}", pos = "1", response = """{"errcode":"M_UNKNOWN_POS"}""")
                },
                "sliding sync request" to fails(MlsException.InvalidInput::class, "bad_sync_request") {
                    syncChangesFromSlidingSync("""{"lists":7}""", pos = null, response = """{"pos":"1"}""")
                },
            )
            for ((argument, error) in errors) {
                assertTrue(error.reason.contains(argument), "$argument in: ${error.reason}")
                assertFalse(error.retryable)
            }
        }
    }

    @Test
    fun `what is wrong with a store is told`() = test {
        val machine = open(directory)
        fails(MlsException.StoreInUse::class, "store_in_use") { open(directory) }
        machine.shutdown()
        fails(MlsException.Closed::class, "closed") { machine.rooms() }
        fails(MlsException.StoreWrongKey::class, "store_wrong_key") { open(directory, StoreKey.Passphrase("secret")) }
        fails(MlsException.StoreIo::class, "store_missing") { MlsReader.open("$directory/none", KEY) }
        val file = directory.resolve("file")
        file.writeBytes(ByteArray(3))
        fails(MlsException.StoreIo::class, "store_io") { open(file) }

        val database = directory.resolve("matrix-mls.db")
        val whole = Files.readAllBytes(database)
        // Bytes 60 to 63 of an SQLite file are its user version: here, the schema's.
        database.writeBytes(whole.clone().also { it[63] = 99 })
        fails(MlsException.StoreTooNew::class, "store_too_new") { open(directory) }
        database.writeBytes("no database at all".toByteArray())
        fails(MlsException.StoreDamaged::class, "store_damaged") { open(directory) }
        database.writeBytes(whole)
        open(directory).use { }
    }

    @Test
    fun `what is wrong in a room is told`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        val (alices, bobs) = alice.machine.room(roomId) to bob.machine.room(roomId)
        fails(MlsException.NotInGroup::class, "not_enabled") { alice.machine.room("!other:example.org").members() }
        fails(MlsException.TooLarge::class, "too_large") {
            alices.encrypt("m.room.message", JSONObject().put("body", "x".repeat(70_000)).toString())
        }
        open(directory).use { machine ->
            val room = machine.enableAlone("!room:example.org")
            room.setMembers(listOf(machine.userId(), "@bob:example.org"))
            assertTrue(fails(MlsException.NotReady::class, "not_ready") { room.encrypt("m.test", "{}") }.retryable)
            // The homeserver is asked who is in the room, and does not say.
            for (request in (room.prepareToSend() as SendPlan.Waiting).requests) {
                assertTrue(request.path.contains("/members"), request.toString())
                machine.markRequestAsSent(request.id, 403, """{"errcode":"M_FORBIDDEN"}""".toByteArray())
            }
            assertTrue(fails(MlsException.NotReady::class, "members_unknown") { room.prepareToSend() }.retryable)
            fails(MlsException.NotReady::class, "members_unknown") { machine.prepare(room, accepting) }
            fails(MlsException.NotReady::class, "not_ready") { room.encrypt("m.test", "{}") }
            assertEquals(1, room.members().size)
        }

        alices.rotateKeys()
        alice.send(roomId, "in a new epoch")
        val event = alice.encryptedEvents(roomId).last()
        assertTrue(fails(MlsException.UnknownEpoch::class, "unknown_epoch") { bobs.decrypt(event.toString()) }.retryable)
        val content = event.getJSONObject("content")
        val text = content.getString("ciphertext")
        val forged = text.take(100) + (if (text[100] == 'A') 'B' else 'A') + text.drop(101)
        val broken = JSONObject(event.toString()).put("content", JSONObject(content.toString()).put("ciphertext", forged))
        fails(MlsException.Rejected::class, "bad_message") { alices.decrypt(broken.toString()) }
        val elsewhere = JSONObject(content.toString()).put("ciphertext", JSONObject("""{"url":"mxc://a/b","size":70000,"sha256":"AAAA"}"""))
        fails(MlsException.Unsupported::class, "value_in_media") {
            alices.decrypt(JSONObject(event.toString()).put("content", elsewhere).toString())
        }
        alice.close()
        bob.close()
    }

    @Test
    fun `a bad to-device event fails alone`() = test {
        open(directory).use { machine ->
            val bad = """{"type":"m.room.encrypted","sender":"@mallory:example.org","content":{"algorithm":"org.matrix.msc2883.v0.mls.welcome.dhkemx25519-aes128gcm-sha256-ed25519","ciphertext":"!"}}"""
            val summary = machine.receiveSync(sync(toDevice = listOf(bad, """{"type":"m.dummy"}""", "no JSON")))
            assertEquals(3, summary.toDevice.size)
            assertTrue(summary.toDevice.any { it is ToDeviceResult.Failed || it is ToDeviceResult.Ignored })
        }
    }

    /** The variants that take a full disk or a defect to happen, and the list itself. */
    @Test
    fun `every variant has a test and all have code, reason and retryable`() {
        val details = ErrorDetails("a", "b", true)
        val made = listOf(
            MlsException.InvalidInput(details), MlsException.StoreWrongKey(details),
            MlsException.StoreDamaged(details), MlsException.StoreTooNew(details),
            MlsException.StoreFull(details), MlsException.StoreInUse(details),
            MlsException.StoreIo(details), MlsException.Closed(details),
            MlsException.Suspended(details), MlsException.Unauthorized(details),
            MlsException.NewDeviceNeeded(details),
            MlsException.NotInGroup(details), MlsException.NotReady(details),
            MlsException.UntrustedMembers(listOf("@bob:example.org"), details),
            MlsException.RoomReplaced("!new:example.org", details),
            MlsException.TooLarge(details), MlsException.UnknownEpoch(details),
            MlsException.Forked(details), MlsException.Rejected(details),
            MlsException.Unsupported(details), MlsException.Internal(details),
        )
        for (error in made) {
            assertEquals(details, error.details())
            assertEquals(details, ErrorDetails(error.code, error.reason, error.retryable))
            assertEquals("a: b", error.message)
        }
        val listed = apiListing.readLines().dropWhile { it.substringBefore("  —") != "error MlsError" }.drop(1)
            .takeWhile { it.startsWith("  ") }.filterNot { it.startsWith("  method ") }
            .map { it.trim().substringBefore(' ') }
        assertEquals(listed, made.map { it::class.simpleName })
    }
}
