/** The sample's views: three pages in one column, each made when it is shown. Every view has a tag. */
package org.matrixmls.sample.android

import android.text.InputType
import android.view.View
import android.widget.Button
import android.widget.CheckBox
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.ScrollView
import android.widget.TextView

class Screen(val root: LinearLayout) {
    private val status = TextView(root.context).apply { tag = "status" }
    private val page = LinearLayout(root.context).apply { orientation = LinearLayout.VERTICAL }
    private var shown = ""

    init {
        val padding = (16 * root.resources.displayMetrics.density).toInt()
        root.setPadding(padding, padding, padding, padding)
        root.addView(status)
        root.addView(page, LinearLayout.LayoutParams(LinearLayout.LayoutParams.MATCH_PARENT, 0, 1f))
        say("")
    }

    /** Shows a sentence above the page. */
    fun say(sentence: String) {
        status.text = sentence
        status.visible(sentence.isNotEmpty())
    }

    fun logIn(action: (Session.Login) -> Unit) = page("log-in") {
        val url = field("url", "Homeserver", InputType.TYPE_TEXT_VARIATION_URI)
        val user = field("user", "User name", InputType.TYPE_TEXT_VARIATION_NORMAL)
        val password = field("password", "Password", InputType.TYPE_TEXT_VARIATION_PASSWORD)
        val new = add("new", CheckBox(root.context).apply { text = "New account" })
        button("enter", "Log in") {
            action(Session.Login(url.text.toString(), user.text.toString(), password.text.toString(), new.isChecked))
        }
    }

    fun rooms(rooms: List<String>, select: (String) -> Unit, create: (List<String>) -> Unit) {
        page("rooms") {
            add("room-list", LinearLayout(root.context).apply { orientation = LinearLayout.VERTICAL })
            val invite = field("invite", "Invite, such as @bob:example.org", InputType.TYPE_TEXT_VARIATION_URI)
            button("create", "New MLS room") {
                create(invite.text.split(' ').filter { it.isNotEmpty() })
            }
        }
        val list = page.findViewWithTag<LinearLayout>("room-list")
        list.removeAllViews()
        for (room in rooms) {
            list.addView(Button(root.context).apply {
                tag = room
                text = room
                setOnClickListener { select(room) }
            })
        }
    }

    fun timeline(lines: List<Line>, send: (String) -> Unit) {
        page("timeline") {
            val scroll = ScrollView(root.context)
            scroll.addView(TextView(root.context).apply { tag = "lines" })
            page.addView(scroll, LinearLayout.LayoutParams(LinearLayout.LayoutParams.MATCH_PARENT, 0, 1f))
            val text = field("text", "Message", InputType.TYPE_TEXT_FLAG_CAP_SENTENCES)
            button("send", "Send") {
                send(text.text.toString())
                text.setText("")
            }
        }
        page.findViewWithTag<TextView>("lines").text = lines.joinToString("\n") { "${it.sender}: ${it.text}" }
    }

    /** Makes a page unless it is the one that is shown: what is being typed stays. */
    private fun page(name: String, make: () -> Unit) {
        if (shown == name) return
        shown = name
        page.removeAllViews()
        make()
    }

    private fun field(name: String, hint: String, variation: Int): EditText =
        add(name, EditText(root.context).apply {
            this.hint = hint
            inputType = InputType.TYPE_CLASS_TEXT or variation
        })

    private fun button(name: String, label: String, action: () -> Unit) {
        add(name, Button(root.context).apply {
            text = label
            setOnClickListener { action() }
        })
    }

    private fun <V : View> add(name: String, view: V): V {
        view.tag = name
        page.addView(view)
        return view
    }
}
