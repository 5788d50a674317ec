/**
 * Alice and Bob talk in an MLS room: the sample of the README, against any homeserver that lets
 * accounts be registered.
 */
package org.matrixmls.sample

import java.nio.file.Files
import java.util.UUID
import kotlinx.coroutines.runBlocking
import org.matrixmls.StoreKey

fun main(arguments: Array<String>) = runBlocking {
    val homeserver = arguments.firstOrNull() ?: error("usage: TwoDevices HOMESERVER_URL")
    val tag = UUID.randomUUID().toString().take(8)
    val stores = Files.createTempDirectory("matrix-mls")

    // An app takes the key from the platform's key store; see the android folder.
    fun device(name: String) = MatrixClient.Device("PHONE", stores.resolve(name), StoreKey.Raw(ByteArray(32) { 7 }))
    val alice = MatrixClient.register(homeserver, "alice-$tag", "secret of alice", device("alice"))
    val bob = MatrixClient.register(homeserver, "bob-$tag", "secret of bob", device("bob"))
    // Each publishes its keys, so that it can be added to groups.
    alice.settle()
    bob.settle()

    val room = alice.createRoom(invite = listOf(bob.userId))
    bob.join(room)
    alice.settle()
    alice.enable(room)
    alice.send(room, "Hello, Bob")

    for (message in bob.settle()) {
        println("Bob reads, from ${message.senderUserId} (${message.verdict}), epoch ${message.epoch}: ${message.content}")
    }
    alice.close()
    bob.close()
}
