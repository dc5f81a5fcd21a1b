"""Currencies, scales and units of the normaliser. Data only."""

from __future__ import annotations

from sled_tts.server.text.lexicon import words

CURRENCIES = {  # sign: (one, many, hundredth, hundredths)
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "₽": ("ruble", "rubles", "kopek", "kopeks"),
    "₩": ("won", "won", "jeon", "jeon"),
    "¢": ("cent", "cents", "", ""),
    "NT$": ("Taiwan dollar", "Taiwan dollars", "cent", "cents"),
    "R$": ("real", "reais", "centavo", "centavos"),
    "₺": ("lira", "lira", "kurus", "kurus"),
    "₪": ("shekel", "shekels", "agora", "agorot"),
    "₫": ("dong", "dong", "", ""),
    "฿": ("baht", "baht", "satang", "satang"),
    "₱": ("peso", "pesos", "centavo", "centavos"),
    "₦": ("naira", "naira", "kobo", "kobo"),
    "₴": ("hryvnia", "hryvnias", "kopiyka", "kopiykas"),
    "USD": ("U S dollar", "U S dollars", "cent", "cents"), "EUR": ("euro", "euros", "cent", "cents"),
    "GBP": ("British pound", "British pounds", "penny", "pence"), "JPY": ("yen", "yen", "", ""),
    "CAD": ("Canadian dollar", "Canadian dollars", "cent", "cents"),
    "AUD": ("Australian dollar", "Australian dollars", "cent", "cents"),
    "NZD": ("New Zealand dollar", "New Zealand dollars", "cent", "cents"),
    "SGD": ("Singapore dollar", "Singapore dollars", "cent", "cents"),
    "HKD": ("Hong Kong dollar", "Hong Kong dollars", "cent", "cents"),
    "CHF": ("Swiss franc", "Swiss francs", "", ""), "INR": ("rupee", "rupees", "paisa", "paise"),
    "CNY": ("yuan", "yuan", "", ""), "RMB": ("yuan", "yuan", "", ""), "KRW": ("won", "won", "", ""),
    "SEK": ("Swedish krona", "Swedish kronor", "", ""), "NOK": ("Norwegian krone", "Norwegian kroner", "", ""),
    "DKK": ("Danish krone", "Danish kroner", "", ""), "PLN": ("zloty", "zlotys", "", ""),
    "MXN": ("Mexican peso", "Mexican pesos", "", ""), "BRL": ("real", "reais", "", ""),
    "ZAR": ("rand", "rand", "", ""), "AED": ("dirham", "dirhams", "fils", "fils"),
    "SAR": ("riyal", "riyals", "", ""), "QAR": ("Qatari riyal", "Qatari riyals", "", ""),
    "THB": ("baht", "baht", "satang", "satang"), "TWD": ("Taiwan dollar", "Taiwan dollars", "cent", "cents"),
    "MYR": ("ringgit", "ringgit", "sen", "sen"), "IDR": ("rupiah", "rupiah", "", ""), "VND": ("dong", "dong", "", ""),
    "CZK": ("koruna", "koruna", "", ""), "HUF": ("forint", "forints", "", ""),
    "RUB": ("ruble", "rubles", "kopek", "kopeks"), "UAH": ("hryvnia", "hryvnias", "kopiyka", "kopiykas"),
    "NGN": ("naira", "naira", "kobo", "kobo"), "KES": ("Kenyan shilling", "Kenyan shillings", "", ""),
    "EGP": ("Egyptian pound", "Egyptian pounds", "", ""), "PKR": ("Pakistani rupee", "Pakistani rupees", "", ""),
    "CLP": ("Chilean peso", "Chilean pesos", "", ""), "kr": ("krone", "kroner", "", ""),
    "₡": ("colon", "colones", "", ""), "₵": ("cedi", "cedis", "", ""), "₸": ("tenge", "tenge", "", ""),
    "₾": ("lari", "lari", "", ""), "₼": ("manat", "manat", "", ""), "₭": ("kip", "kip", "", ""),
    "₮": ("tugrik", "tugrik", "", ""), "₲": ("guarani", "guaranies", "", ""), "৳": ("taka", "taka", "", ""),
    "BTC": ("bitcoin", "bitcoins", "", ""),
}  # fmt: skip
# Signs of the same.
_SIGNS = {
    "€": "EUR", "¥": "JPY", "₹": "INR", "Rs": "INR", "₿": "BTC", "US$": "USD", "CA$": "CAD", "C$": "CAD", "AU$": "AUD",
    "A$": "AUD", "HK$": "HKD", "NZ$": "NZD", "S$": "SGD", "MX$": "MXN", "Rs.": "INR", "zl": "PLN", "Kc": "CZK",
}  # fmt: skip
CURRENCIES |= {sign: CURRENCIES[code] for sign, code in _SIGNS.items()}
SCALES = {
    "k": "thousand", "m": "million", "mm": "million", "mn": "million", "mio": "million", "b": "billion",
    "bn": "billion", "t": "trillion", "tn": "trillion",
}  # fmt: skip
SCALE_WORDS = frozenset({"hundred", "thousand", "million", "billion", "trillion", "quadrillion"}) | frozenset(
    {"mn", "bn", "tn", "mio", "lakh", "crore"}
)

UNITS = {  # as written: (one, many)
    "km": ("kilometer", "kilometers"), "m": ("meter", "meters"), "cm": ("centimeter", "centimeters"),
    "mm": ("millimeter", "millimeters"), "µm": ("micrometer", "micrometers"), "nm": ("nanometer", "nanometers"),
    "mi": ("mile", "miles"), "ft": ("foot", "feet"), "yd": ("yard", "yards"), "in": ("inch", "inches"),
    "kg": ("kilogram", "kilograms"), "g": ("gram", "grams"), "mg": ("milligram", "milligrams"),
    "µg": ("microgram", "micrograms"), "lb": ("pound", "pounds"), "lbs": ("pound", "pounds"), "oz": ("ounce", "ounces"),
    "l": ("liter", "liters"), "L": ("liter", "liters"), "ml": ("milliliter", "milliliters"),
    "mL": ("milliliter", "milliliters"), "gal": ("gallon", "gallons"), "tbsp": ("tablespoon", "tablespoons"),
    "tsp": ("teaspoon", "teaspoons"), "s": ("second", "seconds"), "sec": ("second", "seconds"),
    "ms": ("millisecond", "milliseconds"), "µs": ("microsecond", "microseconds"), "ns": ("nanosecond", "nanoseconds"),
    "min": ("minute", "minutes"), "mins": ("minute", "minutes"), "h": ("hour", "hours"), "hr": ("hour", "hours"),
    "hrs": ("hour", "hours"), "mph": ("mile per hour", "miles per hour"), "kph": ("kilometer per hour",
    "kilometers per hour"), "rpm": ("revolution per minute", "revolutions per minute"), "Hz": ("hertz", "hertz"),
    "kHz": ("kilohertz", "kilohertz"), "MHz": ("megahertz", "megahertz"), "GHz": ("gigahertz", "gigahertz"),
    "B": ("byte", "bytes"), "KB": ("kilobyte", "kilobytes"), "kB": ("kilobyte", "kilobytes"),
    "MB": ("megabyte", "megabytes"), "GB": ("gigabyte", "gigabytes"), "TB": ("terabyte", "terabytes"),
    "PB": ("petabyte", "petabytes"), "KiB": ("kibibyte", "kibibytes"), "MiB": ("mebibyte", "mebibytes"),
    "GiB": ("gibibyte", "gibibytes"), "kbps": ("kilobit per second", "kilobits per second"),
    "Mbps": ("megabit per second", "megabits per second"), "Gbps": ("gigabit per second", "gigabits per second"),
    "W": ("watt", "watts"), "kW": ("kilowatt", "kilowatts"), "MW": ("megawatt", "megawatts"),
    "kWh": ("kilowatt hour", "kilowatt hours"), "V": ("volt", "volts"), "mV": ("millivolt", "millivolts"),
    "A": ("amp", "amps"), "mA": ("milliamp", "milliamps"), "mAh": ("milliamp hour", "milliamp hours"),
    "Ω": ("ohm", "ohms"), "dB": ("decibel", "decibels"), "J": ("joule", "joules"), "kJ": ("kilojoule", "kilojoules"),
    "kcal": ("kilocalorie", "kilocalories"), "cal": ("calorie", "calories"), "Pa": ("pascal", "pascals"),
    "kPa": ("kilopascal", "kilopascals"), "psi": ("P S I", "P S I"), "bar": ("bar", "bars"),
    "px": ("pixel", "pixels"), "pt": ("point", "points"), "fps": ("frame per second", "frames per second"),
    "dpi": ("D P I", "D P I"), "ha": ("hectare", "hectares"), "°": ("degree", "degrees"),
    "°C": ("degree Celsius", "degrees Celsius"), "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "ºC": ("degree Celsius", "degrees Celsius"), "K": ("kelvin", "kelvin"), "m^2": ("square meter", "square meters"),
    "km^2": ("square kilometer", "square kilometers"), "cm^2": ("square centimeter", "square centimeters"),
    "m^3": ("cubic meter", "cubic meters"), "cm^3": ("cubic centimeter", "cubic centimeters"),
    "ft^2": ("square foot", "square feet"), "sqft": ("square foot", "square feet"), "pct": ("percent", "percent"),
    "sqm": ("square meter", "square meters"), "mpg": ("mile per gallon", "miles per gallon"),
    "bpm": ("beat per minute", "beats per minute"), "mmHg": ("millimeter of mercury", "millimeters of mercury"),
    "bps": ("basis point", "basis points"), "ppm": ("part per million", "parts per million"),
    "ppb": ("part per billion", "parts per billion"), "hp": ("horsepower", "horsepower"),
    "hPa": ("hectopascal", "hectopascals"), "mbar": ("millibar", "millibars"), "atm": ("atmosphere", "atmospheres"),
    "cl": ("centiliter", "centiliters"), "dl": ("deciliter", "deciliters"), "dL": ("deciliter", "deciliters"),
    "cc": ("C C", "C C"), "qt": ("quart", "quarts"), "yds": ("yard", "yards"), "pcs": ("piece", "pieces"),
    "kmh": ("kilometer per hour", "kilometers per hour"), "secs": ("second", "seconds"), "us": ("microsecond",
    "microseconds"), "wk": ("week", "weeks"), "wks": ("week", "weeks"), "mo": ("month", "months"), "mos": ("month",
    "months"), "yr": ("year", "years"), "yrs": ("year", "years"), "yo": ("year old", "year old"), "Nm": ("newton meter",
    "newton meters"), "Wh": ("watt hour", "watt hours"), "GW": ("gigawatt", "gigawatts"), "MWh": ("megawatt hour",
    "megawatt hours"), "eV": ("electron volt", "electron volts"), "kΩ": ("kilohm", "kilohms"),
    "MΩ": ("megohm", "megohms"), "Mb": ("megabit", "megabits"), "Gb": ("gigabit", "gigabits"),
    "kb": ("kilobit", "kilobits"), "Mbit": ("megabit", "megabits"), "Gbit": ("gigabit", "gigabits"),
    "Tbps": ("terabit per second", "terabits per second"), "deg": ("degree", "degrees"), "pp": ("percentage point",
    "percentage points"), "mol": ("mole", "moles"),
    "inHg": ("inch of mercury", "inches of mercury"), "MP": ("megapixel", "megapixels"),
    "Tbsp": ("tablespoon", "tablespoons"), "TBSP": ("tablespoon", "tablespoons"), "Tsp": ("teaspoon", "teaspoons"),
    "pts": ("point", "points"), "F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "C": ("degree Celsius", "degrees Celsius"),
    "tbsps": ("tablespoon", "tablespoons"), "tsps": ("teaspoon", "teaspoons"),
}  # fmt: skip
# After a number and a space these are words or letters more often than units.
UNITS_JOINED = frozenset(words("F C in s m A B K h g J V W l L bar pt cal us yo pp cc atm Mb Gb kb cl"))
# Written with a stop that is part of them.
UNITS_DOTTED = frozenset(
    words(
        "min mins sec secs hr hrs ft lb lbs oz in mi Tbsp TBSP Tsp tbsp tsp tbsps tsps gal qt pt yd yds wk wks mo mos "
        "yr yrs"
    )
)
PER = {"h": "hour", "hr": "hour", "s": "second", "sec": "second", "min": "minute", "mo": "month", "month": "month",
    "yr": "year", "year": "year", "day": "day", "week": "week", "wk": "week", "hour": "hour", "kg": "kilogram",
    "lb": "pound", "l": "liter", "L": "liter", "gal": "gallon", "m^2": "square meter", "m^3": "cubic meter",
    "s^2": "second squared", "user": "user", "person": "person", "km": "kilometer", "mi": "mile", "m": "meter",
    "night": "night", "token": "token", "GB": "gigabyte", "dL": "deciliter", "ml": "milliliter", "mL": "milliliter",
    "second": "second", "minute": "minute", "seat": "seat", "item": "item", "d": "day", "g": "gram",
    "mg": "milligram", "mol": "mole", "unit": "unit", "page": "page", "child": "child", "bbl": "barrel", "oz": "ounce",
    "ton": "ton", "sqft": "square foot", "ft^2": "square foot", "pp": "person", "pcm": "calendar month", "pw": "week",
    "pa": "year"}  # fmt: skip
