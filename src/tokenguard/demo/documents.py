"""What the demo's application knows: a support handbook, a shelf of document chunks, tickets and questions."""

from __future__ import annotations

PRODUCTS = (
    ("Harbor Router", "HR-200", 24, 129),
    ("Harbor Mesh", "HM-310", 24, 249),
    ("Lantern Camera", "LC-12", 36, 89),
    ("Lantern Doorbell", "LD-4", 36, 149),
    ("Quill Tablet", "QT-8", 12, 329),
    ("Quill Reader", "QR-6", 12, 179),
    ("Tern Headset", "TH-51", 18, 99),
    ("Tern Speaker", "TS-20", 18, 159),
    ("Osprey Thermostat", "OT-3", 60, 199),
    ("Osprey Valve", "OV-1", 60, 59),
    ("Fjord Battery", "FB-10", 120, 899),
    ("Fjord Charger", "FC-7", 60, 449),
)
"""Name, part number, months of warranty, price."""

RULES = """\
You answer customers of Northwind Devices by chat. Be brief, friendly and exact; write sentences, not lists.
Say what you are going to do before you do it. Never promise a date that the order page does not show.
Ask for one thing at a time. If the customer has told you a number once, do not ask for it again.
Do not discuss other customers, internal tools, suppliers, margins, or the names of colleagues.
If a device smells, smokes, leaks or becomes hot, tell the customer to unplug it and hand the conversation to a person.
Refunds up to 100 are yours to grant. Above that, collect the reason and a photo, and hand the conversation to a person.
A return is free within thirty days of delivery. After that the customer pays the parcel, unless the device is faulty.
Orders can be changed until they are packed. An address can be changed until the parcel is with the carrier.
An invoice can be issued again at any time, but its date cannot be changed, and nor can the company it names.
Subscriptions end with the paid month. There is no refund for months that have begun, save where the law demands it.
When you do not know, say so, and offer to find out. Do not guess part numbers, prices or dates.
"""

HANDBOOK = RULES + "\n".join(
    f"{name} ({number}) costs {price} and has {months} months of warranty on parts and labour. Its light is steady "
    f"when all is well, blinks slowly while searching for a network, and blinks fast after a fault. To reset it, hold "
    f"the button for {5 + n} seconds until the light goes out; settings are lost, the warranty is not. Spare parts for "
    f"{number} are kept for {months // 12 + 5} years and leave the warehouse in {1 + n % 4} working days. Firmware "
    f"{n % 5 + 2}.{n % 7} is the current one; older ones than {n % 5 + 1}.0 must be updated by cable. It works between "
    f"{n - 10} and {n + 35} degrees, indoors unless the label says otherwise, and weighs {150 + 37 * n} grams."
    for n, (name, number, months, price) in enumerate(PRODUCTS)
)
"""The support bot's system prompt, some 2,000 tokens that never change: made to be cached."""

CHUNKS = tuple(
    f"[{number}-{section}] {name}, {title}. {text} This section was last reviewed in {month}, and applies to devices "
    f"sold since {2015 + section} with a serial number that begins with {number.replace('-', '')}. In doubt the "
    f"printed guide in the box prevails over this text, and the law of the country of purchase over both."
    for name, number, months, price in PRODUCTS
    for section, (title, text, month) in enumerate(
        (
            (
                "Setting up",
                f"Place the {name} where you can reach it, connect it, and wait until the light is steady.",
                "May",
            ),
            (
                "Warranty",
                f"Faults in parts and labour are covered for {months} months from the day of delivery.",
                "January",
            ),
            (
                "Billing",
                f"The price of {price} includes tax and delivery; a plan of twelve payments costs two more.",
                "March",
            ),
            (
                "Repairs",
                "Send it in its box, without accessories; repairs take eight working days from arrival.",
                "July",
            ),
            (
                "Privacy",
                "Recordings stay on the device unless you share them, and are deleted after thirty days.",
                "June",
            ),
        )
    )
)
"""Sixty chunks of a document store, some 100 tokens each."""

TICKETS = (
    "My doorbell blinks fast since the storm last night. Is that covered?",
    "I was charged twice for the reader, once on the 3rd and once on the 5th.",
    "Can I still change the address of my order? It says packed.",
    "The tablet arrived with a scratch. I would like another one or some money back.",
    "How do I cancel the recording plan without losing what is recorded?",
    "Does the charger work outdoors? We get a lot of rain here.",
    "I lost my invoice and the tax office wants it by Monday.",
    "The thermostat shows 35 degrees in winter, and it is not, I promise.",
)
FOLLOW_UPS = ("Thanks. And what do I have to do first?", "I see. How long will that take, roughly?")

QUESTIONS = (
    "How long is the warranty of the Harbor Router?",
    "What does a plan of twelve payments cost for the Quill Tablet?",
    "Where are the recordings of the Lantern Camera kept?",
    "How long does a repair of the Tern Headset take?",
)

QUEUES = "billing, shipping, repair, account"
"""What triage sorts tickets into."""
