/** History that comes back: from the backup, from a file, from who adds a device. */
package org.matrixmls.tests

import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.async
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.onEach
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.matrixmls.BackupState
import org.matrixmls.HistoryFailure
import org.matrixmls.MlsDevice
import org.matrixmls.MlsException
import org.matrixmls.MlsMachine
import org.matrixmls.OutgoingRequest
import org.matrixmls.RecoveryKey
import org.matrixmls.RestoreScope
import org.matrixmls.Restoring
import org.matrixmls.RoomSettings
import org.matrixmls.ToDeviceResult
import org.matrixmls.Update
import org.matrixmls.code
import org.matrixmls.drive
import org.matrixmls.restoring
import org.matrixmls.retryable
import org.matrixmls.sample.MatrixClient
import org.matrixmls.sample.backUp
import org.matrixmls.sample.restore
import org.matrixmls.syncChangesFromResponse
import org.matrixmls.use

class RestoreTest {
    private suspend fun MatrixClient.texts(roomId: String): List<String> =
        history(roomId).mapNotNull { it.message }.map { JSONObject(it.content).getString("body") }

    private suspend fun MatrixClient.drive() = machine.drive(transport)

    /** Says something in so many epochs. */
    private suspend fun MatrixClient.talk(roomId: String, epochs: Int) = repeat(epochs) { epoch ->
        machine.room(roomId).rotateKeys()
        send(roomId, "message $epoch")
    }

    /** Without the sentences. */
    private fun Restoring.bare(): Restoring =
        if (this is Restoring.Finished) copy(failures = failures.map { it.copy(reason = "") }) else this

    /** Drives as often as a restore asks for it. */
    private suspend fun MatrixClient.all(key: RecoveryKey?, scope: RestoreScope = RestoreScope.AllRooms): List<Restoring> =
        machine.restoring(key, scope).onEach { if (it is Restoring.Begun) drive() }.toList().map { it.bare() }

    @Test
    fun `a new phone shows the old messages, and goes on talking`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        val text = alice.backUp()
        alice.talk(roomId, 3)
        bob.settle()
        bob.send(roomId, "of Bob")
        alice.settle()
        val said = alice.texts(roomId)

        val phone = anotherDevice(alice, "NEWPHONE")
        phone.settle()
        assertEquals(emptyList<String>(), phone.texts(roomId))
        fails(MlsException.InvalidInput::class, "recovery_key_length") { phone.restore(text.dropLast(5)) }
        var progress = 0uL to 0uL
        val finished = phone.restore(text) { done, total -> progress = done to total }
        // The epochs, and the leaves of those with Alice alone and with both.
        assertEquals(Restoring.Finished(6u, emptyList()), finished)
        assertEquals(8uL to 8uL, progress)
        assertEquals(said, phone.texts(roomId))
        phone.send(roomId, "on the new phone")
        bob.settle()
        assertEquals("on the new phone", bob.texts(roomId).last())
        for (client in listOf(alice, bob, phone)) client.close()
    }

    @Test
    fun `a passphrase brings the backup back`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        alice.send(roomId, "hello")
        RecoveryKey.fromNewPassphrase("correct horse").use { key ->
            alice.machine.backup().use { it.create(key, replace = false) }
        }
        alice.drive()
        val phone = anotherDevice(alice, "NEWPHONE")
        phone.machine.backup().use { backup ->
            backup.look()
            phone.settle()
            val how = (backup.state() as BackupState.Locked).passphrase!!
            assertEquals(500_000u, how.rounds)
            RecoveryKey.fromPassphrase("correct horse", how.salt, how.rounds).use { key ->
                assertEquals(Restoring.Finished(2u, emptyList()), phone.all(key).last())
            }
        }
        assertEquals(listOf("hello"), phone.texts(roomId))
        for (client in listOf(alice, bob, phone)) client.close()
    }

    @Test
    fun `one room, or what one message needs`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val (roomId, other) = roomOf(alice, bob) to roomOf(alice, bob)
        for (room in listOf(roomId, other)) alice.send(room, "in $room")
        val text = alice.backUp()
        val phone = anotherDevice(alice, "NEWPHONE")
        phone.settle()
        val backup = phone.machine.backup()
        fails(MlsException.InvalidInput::class, "no_key") { backup.restore(null, RestoreScope.AllRooms) }
        fails(MlsException.InvalidInput::class, "no_key") { phone.machine.restoring().first() }
        RecoveryKey.parse(text).use { key ->
            backup.enable(key)
            assertEquals(Restoring.Finished(2u, emptyList()), phone.all(key, RestoreScope.Room(roomId)).last())
        }
        assertEquals(listOf("in $roomId") to emptyList<String>(), phone.texts(roomId) to phone.texts(other))
        // With the key of the backup that is enabled by now.
        val event = phone.encryptedEvents(other).last()
        val found = phone.all(null, RestoreScope.Message(event.toString(), other)).last() as Restoring.Finished
        assertEquals(emptyList<HistoryFailure>(), found.failures)
        assertEquals(listOf("in $other"), phone.texts(other))
        event.getJSONObject("content").put("epoch_creator", org.json.JSONArray(listOf("@carol:example.org", "PHONE")))
        val none = phone.all(null, RestoreScope.Message(event.toString(), other)).last()
        assertEquals(Restoring.Finished(0u, listOf(HistoryFailure("not_in_backup", 1u))), none)
        fails(MlsException.InvalidInput::class, "bad_room_id") { backup.restore(null, RestoreScope.Room("room")) }
        fails(MlsException.Rejected::class, "malformed_event") { backup.restore(null, RestoreScope.Message("{}", other)) }
        backup.close()
        for (client in listOf(alice, bob, phone)) client.close()
    }

    @Test
    fun `what was tampered with is left out and told, and a wrong key restores nothing`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        alice.talk(roomId, 3)
        val text = alice.backUp()
        val path = "/_matrix/client/v3/room_keys/keys?version=1"
        val keys = JSONObject(alice.transport.exchange("GET", path).body.decodeToString())
        val sessions = keys.getJSONObject("rooms").getJSONObject(roomId).getJSONObject("sessions")
        val epochs = sessions.keySet().filterNot { it.startsWith("leaves") }.sorted()
        sessions.put(epochs[1], JSONObject(sessions.getJSONObject(epochs[2]).toString()))
        sessions.getJSONObject(epochs[3]).put("session_data", 1)
        alice.transport.exchange("DELETE", path)
        alice.transport.exchange("PUT", path, keys.toString().toByteArray())
        val phone = anotherDevice(alice, "NEWPHONE")
        val failures = listOf(HistoryFailure("damaged_session", 1u), HistoryFailure("malformed_session", 1u))
        RecoveryKey.generate().use { wrong ->
            val nothing = Restoring.Finished(0u, listOf(HistoryFailure("wrong_key", 1u)))
            assertEquals(nothing, phone.all(wrong).last())
        }
        val heard = Heard(phone.machine)
        assertEquals(Restoring.Finished(3u, failures), phone.restore(text).bare())
        val told = heard.one<Update.RestoreFinished>().failures
        assertEquals(failures, told.map { it.copy(reason = "") })
        assertTrue(told.all { it.reason.startsWith("the session ") }, told.toString())
        assertEquals(7uL, heard.one<Update.RestoreProgress>().total)
        heard.close()
        for (client in listOf(alice, bob, phone)) client.close()
    }

    @Test
    fun `who stops collecting stops the restore`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        alice.send(roomId, "hello")
        val phone = anotherDevice(alice, "NEWPHONE")
        RecoveryKey.parse(alice.backUp()).use { key ->
            phone.settle()
            val (begun, backup) = Channel<ULong>() to phone.machine.backup()
            val job = launch {
                phone.machine.restoring(key).collect { if (it is Restoring.Begun) begun.send(it.id) }
            }
            val id = begun.receive()
            assertEquals(listOf(id), backup.restores().map { it.id })
            // Whoever asks for the same hears of the same.
            val steps = Channel<Restoring>(Channel.UNLIMITED)
            val beside = launch { phone.machine.restoring(key).collect { steps.send(it) } }
            assertEquals(Restoring.Begun(id), steps.receive())
            job.cancelAndJoin()
            assertEquals(Restoring.Finished(0u, listOf(HistoryFailure("cancelled", 1u))), steps.receive().bare())
            beside.join()
            assertTrue(backup.restores().isEmpty())
            assertFalse(backup.cancelRestore(id))
            phone.drive()
            assertEquals(emptyList<String>(), phone.texts(roomId))
            // Taking the first is leaving as well.
            assertTrue(phone.machine.restoring(key).first() is Restoring.Begun)
            assertTrue(backup.restores().isEmpty())
            // Where nobody collects, it goes on.
            val other = backup.restore(key, RestoreScope.AllRooms)
            phone.drive()
            assertFalse(backup.cancelRestore(other))
            backup.close()
        }
        assertEquals(listOf("hello"), phone.texts(roomId))
        for (client in listOf(alice, bob, phone)) client.close()
    }

    @Test
    fun `a restore outlives the machine`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        alice.send(roomId, "hello")
        val event = alice.encryptedEvents(roomId).last().toString()
        RecoveryKey.parse(alice.backUp()).use { key ->
            val phone = anotherDevice(alice, "NEWPHONE")
            val begun = Channel<Restoring>(Channel.UNLIMITED)
            val collected = async(start = CoroutineStart.UNDISPATCHED) { phone.machine.restoring(key).onEach { begun.send(it) }.toList() }
            val first = begun.receive()
            phone.close()
            assertEquals(listOf(first), collected.await())
            MlsMachine.open(config(phone.store, userId = alice.userId, deviceId = "NEWPHONE")).use { machine ->
                val steps = machine.restoring(key).onEach { if (it is Restoring.Begun) machine.drive(phone.transport) }.toList()
                assertEquals(first, steps.first())
                assertEquals(Restoring.Finished(2u, emptyList()), steps.last())
                assertTrue(machine.room(roomId).decrypt(event).content.contains("hello"))
            }
        }
        alice.close()
        bob.close()
    }

    @Test
    fun `a file moves history without a server`() = test {
        val (alice, bob) = account("alice") to account("bob")
        val roomId = roomOf(alice, bob)
        alice.talk(roomId, 2)
        val backup = alice.machine.backup()
        val all = backup.exportHistory(null, "correct horse")
        val one = backup.exportHistory(listOf(roomId), "correct horse")
        fails(MlsException.InvalidInput::class, "empty_passphrase") { backup.exportHistory(null, "") }
        fails(MlsException.InvalidInput::class, "bad_room_id") { backup.exportHistory(listOf("room"), "a") }
        backup.close()
        val phone = anotherDevice(alice, "NEWPHONE")
        phone.settle()
        phone.machine.backup().use { files ->
            fails(MlsException.InvalidInput::class, "wrong_passphrase") { files.importHistory(all, "battery") }
            fails(MlsException.InvalidInput::class, "bad_file") { files.importHistory(all.take(200), "correct horse") }
            // The first byte says which form it has.
            val lines = all.lines().toMutableList().also { it[1] = "Ag" + it[1].drop(2) }
            fails(MlsException.Unsupported::class, "file_version") { files.importHistory(lines.joinToString("\n"), "correct horse") }
            val summary = files.importHistory("Here it is:\r\n$one", "correct horse")
            assertEquals(4uL to emptyList<HistoryFailure>(), summary.epochs to summary.failures)
            assertEquals(0uL, files.importHistory(all, "correct horse").epochs)
        }
        assertEquals(listOf("message 0", "message 1"), phone.texts(roomId))
        for (client in listOf(alice, bob, phone)) client.close()
    }

    @Test
    fun `who comes later is given what they may read`() = test {
        val (alice, bob, carol) = Triple(account("alice"), account("bob"), account("carol"))
        val roomId = roomOf(alice, bob)
        val sharing = RoomSettings(shareHistory = true)
        alice.machine.room(roomId).setSettings(sharing)
        assertEquals(sharing, alice.machine.room(roomId).settings())
        alice.talk(roomId, 2)
        alice.invite(roomId, carol.userId)
        carol.join(roomId)
        alice.settle()
        alice.send(roomId, "welcome")
        alice.settle()

        val heard = Heard(carol.machine)
        val sync = OutgoingRequest("of no engine", "GET", "/_matrix/client/v3/sync?timeout=0", "application/json", ByteArray(0))
        val changes = syncChangesFromResponse(carol.transport.send(sync).body.decodeToString(), since = null)
        val offer = JSONObject(changes.toDevice.single { it.contains("history") })
        // Somebody's that is none: what it names is fetched all the same, and then the right one finds it there.
        val forged = JSONObject(offer.toString()).also { it.getJSONObject("content").put("bundle_id", "AAAA") }
        val welcome = changes.toDevice.filterNot { it.contains("history") }
        val first = carol.machine.receiveSync(changes.copy(toDevice = welcome + forged.toString())).toDevice.last()
        // Who is in the room is said by the same sync.
        assertEquals("value_in_media" to true, (first as ToDeviceResult.Waiting).error.let { it.code to it.retryable })
        carol.drive()
        val again = changes.copy(toDevice = listOf(offer.toString()))
        assertEquals(listOf(ToDeviceResult.HistoryShared(roomId)), carol.machine.receiveSync(again).toDevice)
        val by = MlsDevice(alice.userId, "PHONE")
        val shared = heard.one<Update.HistoryShared>()
        assertEquals(roomId to by, shared.roomId to shared.by)
        assertTrue(shared.epochs >= 3u, shared.toString())
        assertEquals(listOf("message 0", "message 1", "welcome"), carol.texts(roomId))
        assertEquals(listOf(by, by, null), carol.history(roomId).map { it.message!!.sharedBy })
        heard.close()
        for (client in listOf(alice, bob, carol)) client.close()
    }
}
