/** The sample's two sync connections: where they go on, and what a short timeline leaves out. */
package org.matrixmls.android

import java.io.File
import kotlinx.coroutines.runBlocking
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class SyncTest : AppTest() {
    @Test
    fun `a connection that the homeserver has forgotten begins anew`() {
        val bob = other()
        var app = start()
        enter(app)
        val room = roomWith(app, bob)
        runBlocking { bob.send(room, "before") }
        app.text("lines", "before")
        val kept = File(app.get().noBackupFilesDir, "device")
        app.end()
        restart()
        val positions = listOf("room_list.pos", "to_device.since").map { File(kept, it) }
        for (position in positions) assertTrue("$position is not kept", position.isFile)
        assertEquals(setOf("account.json", "mls", "room_list.pos", "to_device.since"), kept.list()!!.toSet())
        positions.first().writeText("987654321/s1")

        app = start()
        app.press(room)
        app.text("lines", "before")
        runBlocking { bob.send(room, "after") }
        app.text("lines", "after")
        assertTrue(positions.first().readText() != "987654321/s1")
        app.end()
        runBlocking { bob.close() }
    }

    @Test
    fun `what a short timeline leaves out is fetched for who looks at the room`() = runBlocking {
        val (alice, bob) = other("alice") to other("bob")
        val room = alice.createRoom(listOf(bob.userId))
        while (bob.shown.value.rooms.isEmpty()) bob.sync()
        bob.timelines.open(room)
        alice.sync()
        alice.send(room, "text 0")
        while (bob.shown.value.timelines[room].isNullOrEmpty()) bob.sync()
        val texts = (0..8).map { "text $it" }
        for (text in texts.drop(1)) alice.send(room, text)
        bob.sync()
        assertEquals(texts, bob.shown.value.timelines[room]?.map { it.text })
        for (session in listOf(alice, bob)) session.close()
    }
}
