"""Word lists of the normaliser. Data only."""

from __future__ import annotations


def words(text: str) -> list[str]:
    return text.split()


MONTHS = words("January February March April May June July August September October November December")
MONTH_SHORT = {m[:3].lower(): m for m in MONTHS} | {"sept": "September"}
MONTH_NAMES = {m.lower(): m for m in MONTHS} | MONTH_SHORT
# Short forms that are also words or names: months only beside a number.
MONTH_AMBIGUOUS = frozenset({"jan", "mar", "may", "march"})
WEEKDAYS = {
    "mon": "Monday", "tue": "Tuesday", "tues": "Tuesday", "wed": "Wednesday", "thu": "Thursday", "thur": "Thursday",
    "thurs": "Thursday", "fri": "Friday", "sat": "Saturday", "sun": "Sunday",
}  # fmt: skip
# Short forms that are also words.
WEEKDAY_AMBIGUOUS = frozenset({"mon", "wed", "sat", "sun"})
DAYS = WEEKDAYS | {day.lower(): day for day in WEEKDAYS.values()}
ZONES = frozenset(
    words(
        "et pt ct mt est edt cst cdt mst mdt pst pdt gmt utc bst cet cest ist jst aest eastern central mountain pacific"
    )
)

# Before a name: the stop is part of the abbreviation.
TITLES = {
    "mr": "Mister", "mrs": "Missus", "ms": "Miz", "dr": "Doctor", "prof": "Professor", "rev": "Reverend",
    "gen": "General", "capt": "Captain", "lt": "Lieutenant", "sgt": "Sergeant", "col": "Colonel", "maj": "Major",
    "sen": "Senator", "rep": "Representative", "gov": "Governor", "hon": "Honorable", "messrs": "Messers",
    "mt": "Mount", "ft": "Fort", "pres": "President", "cmdr": "Commander", "adm": "Admiral", "fr": "Father",
}  # fmt: skip
# Anywhere: the stop ends a sentence only if a capital, or nothing, follows.
SHORT = {
    "e.g": "for example", "eg": "for example", "i.e": "that is", "ie": "that is", "etc": "et cetera", "vs": "versus",
    "inc": "incorporated",
    "ltd": "limited", "co": "company", "corp": "corporation", "jr": "junior", "sr": "senior", "approx": "approximately",
    "dept": "department", "est": "established", "govt": "government", "assn": "association", "bros": "brothers",
    "cf": "compare", "al": "al", "ave": "avenue", "blvd": "boulevard", "rd": "road",
    "apt": "apartment", "misc": "miscellaneous", "tel": "telephone", "ext": "extension", "min": "minutes",
    "max": "maximum", "hr": "hour", "hrs": "hours", "sec": "seconds", "mins": "minutes", "secs": "seconds",
    "incl": "including",
    "asst": "assistant", "mgr": "manager", "esp": "especially", "viz": "namely", "ca": "circa", "p.s": "P S",
    "qty": "quantity", "acct": "account", "appt": "appointment", "amt": "amount", "attn": "attention", "ln": "lane",
    "ea": "each",
    "hwy": "highway", "pkwy": "parkway", "rte": "route", "esq": "Esquire",
    "ph.d": "P H D", "a.k.a": "also known as", "a.m": "A M", "p.m": "P M", "m.d": "M D", "b.c": "B C", "a.d": "A D",
}  # fmt: skip
NEVER_ENDS = frozenset(
    {
        "al",
        "incl",
        "e.g",
        "eg",
        "i.e",
        "ie",
        "vs",
        "approx",
        "cf",
        "viz",
        "ca",
        "esp",
        "tel",
        "ext",
        "a.k.a",
        "attn",
        "acct",
        "qty",
    }
)
# Only with a stop (`sec.` is seconds, `sec` is left alone).
BARE_SHORT = {
    "vs": "versus", "etc": "et cetera", "approx": "approximately", "aka": "also known as", "govt": "government",
    "dept": "department", "blvd": "boulevard", "hwy": "highway", "yoy": "year over year", "w/": "with",
    "qty": "quantity", "acct": "account", "appt": "appointment", "appts": "appointments", "amt": "amount",
    "attn": "attention", "c/o": "care of", "w/out": "without", "s/he": "she or he", "fwd": "forward", "cc": "C C",
    "qoq": "quarter over quarter", "MoM": "month over month", "Mr": "Mister", "Mrs": "Missus",
    "tl;dr": "T L D R", "ipv4": "I P v four", "ipv6": "I P v six", "y/y": "year over year", "m/m": "month over month",
    "q/q": "quarter over quarter", "w/in": "within", "w/o": "without", "b/c": "because", "n/a": "not applicable",
}  # fmt: skip
# Only before a number.
COUNTED = {
    "no": "number", "nos": "numbers", "vol": "volume", "p": "page", "pp": "pages", "fig": "figure", "figs": "figures",
    "ch": "chapter", "sec": "section", "eq": "equation", "art": "article", "pg": "page", "ver": "version",
    "max": "maximum", "min": "minimum", "c": "circa", "ca": "circa", "rm": "room",
    "ste": "suite", "bldg": "building", "exp": "expires", "ref": "reference",
}  # fmt: skip

# Acronyms that are said as words, with how they are written for the voice.
SAID = {
    w.upper(): w
    for w in words(
        "Nasa Nato Unesco Unicef Opec Radar Sonar Laser Scuba Covid Aids Ram Rom Gif Jpeg Pin Sim Wasp "
        "Captcha Ansi Ascii Nafta Asap Yaml Toml Json Cuda Bert Lasso Posix Ikea Nasdaq Fifa Uefa Lego Swat Taser "
        "Zip Lan Wan Dos Bios Crud Rag Lora Nand Sars Mers Asean Imax Saas Raid Moma Potus Fema Osha Hipaa Epcot Voip"
    )
}
LETTERED = frozenset(
    words(
        "VAT FBI CIA USA USB API CEO CFO CTO COO ATM DIY FAQ HTML HTTP HTTPS SQL CSS PDF CPU GPU TPU NBA NFL NHL MLB "
        "BBC CNN HBO IBM UFO VIP VPN WWW XML DNA RNA ETA EU UN UK US AI ML IT TV PC PR HR ID IQ DJ MC AC DC AM PM "
        "BC AD CE LLM TTS ASR IOT AWS GCP UI UX SDK IDE CLI URL URI IP ISP SSH SSD HDD LED LCD OLED HDMI MIT UCLA "
        "USC NYU AAA ABC NBC EV MVP ROI KPI GDP IRS IPO SEO CRM ERP OKR ADHD PTSD MRI ICU ER HIV OBE LGBTQ NAACP "
        "AOL BMW USSR UAE EPA FDA FAA FCC IMF IOC IRA NSA OECD UNHCR WHO AIDA OS IOS RGB AES RSA JWT MP RPM "
        "PHD USPS USDA USMC USAA RSVP TBA TBD FYI BTW IMO IDK LOL OMG ETC IEEE ECMA ISO JVM ORM UTC GMT EST PST CET "
        "EDT PDT CST AFAIK NGO EMEA IT OCR NLP ASP NYSE CDC DHS DOJ SUV RV HOA OTP SMS IBAN ISBN"
    )
)
SAID |= {"WWI": "World War one", "WWII": "World War two", "FTSE": "Footsie"}
# Capitals for emphasis.
SHOUTED = frozenset(
    words(
        "A I AN AS AT BE BY DO GO HE IF IN IS ME MY NO OF OH ON OR OUR SO TO UP WE ALL AND ANY ARE BAD BIG BUT "
        "BUY CAN DAY DID FOR GET GOT HAD HAS HER HIM HIS HOT HOW ITS LET MAN MAY NEW NOT NOW OFF OLD ONE OUT OWN "
        "PUT RED RUN SAY SEE SET SHE THE TOO TOP TRY TWO USE WAS WAY WHY WIN YES YET YOU END ADD AGO RE"
    )
)
ROMAN_AFTER = frozenset(
    words(
        "chapter part section act scene volume vol book phase war type title article level class grade stage "
        "episode appendix bowl figure table unit rocky henry-the-"
    )
)
REGNAL = frozenset(
    words(
        "henry louis elizabeth charles george edward william james richard john pius benedict philip napoleon "
        "frederick catherine alexander nicholas ivan peter paul leo gregory innocent francis wilhelm friedrich "
        "felipe carlos juan mary ramses ptolemy xerxes darius xavier"
    )
)
WINDS = {"N": "north", "S": "south", "E": "east", "W": "west"}
# Before a mark: `rated 8/10`; or before what it is given to: `give it 8/10`.
RATED = frozenset(words("rate rated rating rates score scored scoring scores grade graded"))
GIVEN = RATED | frozenset(words("give gives gave"))
# Before one of some: `page 3/10`.
PARTED = frozenset(words("part page step day slide chapter lesson question episode week round"))
# Before a name that ends in a letter: `seat 14A`.
LABELLED = frozenset(
    words(
        "apt apartment seat row room rm suite ste unit gate exit section sec appendix figure fig table exhibit bldg "
        "building level platform terminal lot flat type class grade"
    )
)
# Before a number that is a name: `room 204`, `flight 1234`.
NUMBERS_AS_NAMES = frozenset(
    words("room rm suite ste apt apartment flight route rte highway hwy interstate bus gate box exit unit bldg error")
)
SIZED = frozenset(words("tall long wide deep high thick"))
# Before a span of hours, pages or years.
SPANNED = frozenset(words("open from between hours pages ages aged closed weekdays weekends daily")) | DAYS.keys()
YEAR_AFTER = frozenset(
    words(
        "in since by until till from of during before after year circa around about early late mid spring summer "
        "fall autumn winter through and between class copyright founded born died c ca"
    )
)
VERSIONED = frozenset(
    words(
        "version python ios ipados macos android ubuntu node php java ruby release django react vue debian fedora "
        "windows kernel pytorch cuda npm gcc go rust v ver"
    )
)
SCORED = frozenset(
    words("won lost win lose beat score scored lead led leads trailing tied final 's victory loss defeat")
)

TLDS = frozenset(
    words(
        "com org net edu gov mil int io ai app dev co uk us de fr eu ca au jp cn in info biz me tv xyz tech ly gg "
        "nl ch se no es it be at ie nz br ru pl cloud online site shop blog news"
    )
)
SPELLED_TLDS = frozenset(words("io ai uk us de fr eu ca au jp cn tv xyz ly gg nl ch nz br ru pl co")) - {"co"}
EXTENSIONS = frozenset(
    words(
        "py js ts jsx tsx md txt pdf csv tsv json yaml yml toml xml html css cpp hpp rs go rb java sh exe zip tar "
        "gz png jpg jpeg gif svg mp3 mp4 wav doc docx xls xlsx ppt pptx ini cfg conf log sql ipynb lock env"
    )
)
SPELLED_EXTENSIONS = frozenset(
    words("py js ts jsx tsx md pdf csv tsv xml html css cpp hpp rs rb sh gz png jpg svg docx xls xlsx pptx sql ppt")
)

HTML_TAGS = frozenset(
    words(
        "a abbr b blockquote body br button center code dd del details div dl dt em font footer form h1 h2 h3 h4 "
        "h5 h6 head header hr html i iframe img input ins kbd label li link main mark meta nav ol option p pre q "
        "s samp script section select small span strong style sub summary sup svg table tbody td textarea tfoot "
        "th thead title tr u ul var video audio speak break emphasis prosody phoneme say-as spell"
    )
)
# Marks of speech services that say something in their attributes alone; without any they are words in brackets.
SPEECH_TAGS = frozenset(words("emotion speed voice volume"))
BREAKING_TAGS = frozenset(words("br p div li ul ol tr td th h1 h2 h3 h4 h5 h6 hr table"))

STATE_NAMES = {
    "AL": "Alabama", "AK": "Alaska", "AZ": "Arizona", "AR": "Arkansas", "CA": "California", "CO": "Colorado",
    "CT": "Connecticut", "DE": "Delaware", "DC": "D C", "FL": "Florida", "GA": "Georgia", "HI": "Hawaii",
    "ID": "Idaho", "IL": "Illinois", "IN": "Indiana", "IA": "Iowa", "KS": "Kansas", "KY": "Kentucky",
    "LA": "Louisiana", "ME": "Maine", "MD": "Maryland", "MA": "Massachusetts", "MI": "Michigan", "MN": "Minnesota",
    "MS": "Mississippi", "MO": "Missouri", "MT": "Montana", "NE": "Nebraska", "NV": "Nevada", "NH": "New Hampshire",
    "NJ": "New Jersey", "NM": "New Mexico", "NY": "New York", "NC": "North Carolina", "ND": "North Dakota",
    "OH": "Ohio", "OK": "Oklahoma", "OR": "Oregon", "PA": "Pennsylvania", "PR": "Puerto Rico", "RI": "Rhode Island",
    "SC": "South Carolina", "SD": "South Dakota", "TN": "Tennessee", "TX": "Texas", "UT": "Utah", "VT": "Vermont",
    "VA": "Virginia", "WA": "Washington", "WV": "West Virginia", "WI": "Wisconsin", "WY": "Wyoming",
    "ON": "Ontario", "QC": "Quebec", "BC": "British Columbia", "AB": "Alberta", "MB": "Manitoba",
    "SK": "Saskatchewan", "NS": "Nova Scotia", "NB": "New Brunswick",
}  # fmt: skip
# Words, degrees and initials as well: states only before a postal code.
STATES_UNSURE = frozenset(words("OK HI ME ID LA MD MS PR ON AB NS NB"))
PROVINCES = frozenset(words("ON QC BC AB MB SK NS NB"))
STATES = STATE_NAMES.keys() - PROVINCES
# Digits after these are read one by one.
CODED = frozenset(
    words(
        "code pin passcode otp zip zipcode account acct serial ending ends ssn iban imei cvv pnr vin "
        "ein sku upc isbn id postcode card digits ext extension"
    )
)
# So are those after their number: `order number 4821`.
NUMBERED = frozenset(
    words(
        "order tracking confirmation plate routing passport reference ref case ticket invoice policy booking member "
        "reservation membership loyalty customer claim license licence employee part model shipment package"
    )
)
NUMBER_WORDS = frozenset({"number", "no", "nos", "num", "nr", "#"})
# What may stand between the word for a code and the code.
CODED_LINKS = frozenset({"is", "are", "was", "in", "with", "="})
CALLED = frozenset(
    words("call dial text phone tel fax calling number telephone whatsapp reach contact sms dialing texting ring")
)
CALLED_LINKS = frozenset(words("us me him her them at on is number back now to our my your their the or then"))
ELEMENTS = frozenset(
    words(
        "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Sr Zr Mo Ag Cd "
        "In Sn Sb Te I Xe Cs Ba W Pt Au Hg Pb Bi Ra Th U Pu"
    )
)
# Words that begin a sentence rather than go on after `U.S.` or `Inc.`.
STARTERS = frozenset(
    words(
        "the a an he she it they we i you in on at but and so this that these those there if when while however as for "
        "its his her their our my what why how after before since then now no yes also meanwhile to"
    )
)
