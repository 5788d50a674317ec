/**
 * The store's key on Android: 32 random bytes, sealed by a key of the Android Keystore, in a file that no
 * backup takes along, as on another phone it could not be opened.
 */
package org.matrixmls.android

import android.content.Context
import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.security.GeneralSecurityException
import java.security.ProviderException
import java.security.SecureRandom
import javax.crypto.AEADBadTagException
import org.matrixmls.StoreKey

/** Why there is no key for the store. */
public sealed class StoreKeyException(message: String, cause: Throwable?) : Exception(message, cause) {
    /**
     * The Keystore has lost the key that sealed ours: the lock screen was reset, or the file came from
     * another phone. The store cannot be opened any more: delete it, and log in as a new device.
     */
    public class Lost(cause: Throwable?) : StoreKeyException("the store's key cannot be opened any more", cause)

    /** The file with the sealed key is not what was written. The store is lost too, unless the file can be restored. */
    public class Damaged(cause: Throwable?) : StoreKeyException("the file of the store's key is damaged", cause)

    /** The Keystore or the file system did not work. It may later. */
    public class Unavailable(cause: Throwable?) : StoreKeyException("the store's key cannot be had now", cause)
}

/** Keeps the store's key in a file, sealed. */
public class KeystoreStoreKey(private val file: File, private val wrapper: KeyWrapper) {
    /** With the Android Keystore, in the app's directory that backups leave out. */
    public constructor(context: Context) :
        this(File(context.noBackupFilesDir, "matrix-mls.key"), AndroidKeystoreWrapper())

    /**
     * The key, made the first time. Blocking: call it off the main thread. It throws [StoreKeyException], and
     * never makes a new key in place of one that cannot be opened.
     */
    @Throws(StoreKeyException::class)
    public fun get(): StoreKey.Raw = synchronized(LOCK) {
        val wrapped = try {
            if (file.exists()) file.readBytes() else null
        } catch (error: IOException) {
            throw StoreKeyException.Unavailable(error)
        }
        StoreKey.Raw(if (wrapped == null) make() else open(wrapped))
    }

    /**
     * Deletes the key, after `MlsMachine.wipe` or `wipeStore` has deleted the store that it opens: what a flash memory
     * still holds of the store is then of no use. The next [get] makes another. Deleting again does nothing. Throws
     * [StoreKeyException.Unavailable] if the file cannot be deleted.
     */
    @Throws(StoreKeyException::class)
    public fun delete(): Unit = synchronized(LOCK) {
        for (old in listOf(file, File(file.path + ".new"))) {
            if (!old.delete() && old.exists()) throw StoreKeyException.Unavailable(IOException("$old cannot be deleted"))
        }
    }

    private fun open(wrapped: ByteArray): ByteArray {
        // What seals a key makes it longer.
        if (wrapped.size <= KEY_BYTES) throw StoreKeyException.Damaged(null)
        val key = try {
            wrapper.unwrap(wrapped)
        } catch (error: WrappingKeyLost) {
            throw StoreKeyException.Lost(error)
        } catch (error: AEADBadTagException) {
            throw StoreKeyException.Damaged(error)
        } catch (error: GeneralSecurityException) {
            throw StoreKeyException.Unavailable(error)
        } catch (error: ProviderException) {
            // How the Keystore says that its service did not answer.
            throw StoreKeyException.Unavailable(error)
        }
        if (key.size != KEY_BYTES) throw StoreKeyException.Damaged(null)
        return key
    }

    private fun make(): ByteArray {
        val key = ByteArray(KEY_BYTES).also(SecureRandom()::nextBytes)
        try {
            // Under another name first: a file that is there is whole.
            val draft = File(file.path + ".new")
            FileOutputStream(draft).use { out ->
                out.write(wrapper.wrap(key))
                out.fd.sync()
            }
            if (!draft.renameTo(file)) throw IOException("$draft could not be renamed")
        } catch (error: IOException) {
            throw StoreKeyException.Unavailable(error)
        } catch (error: GeneralSecurityException) {
            throw StoreKeyException.Unavailable(error)
        } catch (error: ProviderException) {
            throw StoreKeyException.Unavailable(error)
        }
        return key
    }

    private companion object {
        const val KEY_BYTES = 32

        /** Of the process: two that make the first key at once must end with the same. */
        val LOCK = Any()
    }
}
