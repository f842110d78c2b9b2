"""Words for the places that patterns leave open, and words that mean nothing, for what the model must not pretend to know."""

import random

NAMES = """Anna Ben Carla David Emma Felix Grace Henry Ida Jack Kate Leo Mia Noah Olivia Paul Rosa Sam Tom Zoe Alice Bob
Maria Peter John Sarah Lucas Julia Max Lena Simon Laura Daniel Sofia Martin Nina Oscar Clara Adam Eva Hugo Lily Mark
Ella Theo Amy Victor Iris Jonas Ruth Omar Aisha Ravi Priya Chen Mei Yuki Kenji Ali Fatima Igor Olga Pedro Lucia Marco
Elena Hans Greta Pierre Marie Lars Ingrid Sean Fiona Alex Robin Chris Kim Jan Nora Ivan Vera Luis Carmen Erik Astrid""".split()

ANIMALS = """fox bear cat dog rabbit mouse owl frog bird duck llama lion tiger elephant horse cow pig sheep goat hen
wolf deer squirrel hedgehog turtle fish whale dolphin penguin monkey snail bee ant butterfly spider snake crow goose
donkey dragon""".split()

_THINGS = """
airplane apple army art atom autumn baby bank battery beach bicycle biology blood boat body bone book brain bridge
business camera cancer candle capital car castle century chair cheese chemistry chess child church circle city climate
cloud coffee computer country court culture dance death democracy desert diet dinosaur disease doctor dollar door dream
earth earthquake economy election electricity energy engine engineer England evolution eye factory family farm fashion
fire flower food football forest fruit future galaxy garden gene ghost glass god gold government grammar gravity guitar
hair heart history hospital hotel house human ice idea inflation insect internet invention iron island jazz job justice
kidney king kitchen knife language law lawyer lemon letter library light liver logic love lung machine magnet market
marriage mathematics medicine memory metal milk mind money moon mountain movie museum music nation nature needle network
newspaper novel number ocean oil opera orange painting paper parliament party peace philosophy phone physics piano plane
planet plant poem poetry poison police politics pope potato president price prison protein psychology pyramid queen
radio rain religion restaurant revolution rice river road robot rocket Roman roof root salt sand school science sea
season shadow ship shoe shop silver skin sleep snow society soldier soil song soul sound soup space sport star steam
stock stone storm street student sugar summer sun sword table tax tea teacher telephone television temple tennis theatre
theorem tooth tower town toy train treaty tree truth tunnel universe university vaccine vegetable village violin virus
volcano voltage wall war wedding weight wheel wheat wind window wine winter witch woman wood world year
Africa America Asia Australia Austria Berlin Brazil Canada China Egypt Europe France Germany Greece India Italy Japan
London Mexico Moscow Paris Rome Russia Spain Sweden Tokyo Turkey Bitcoin Linux Windows Google Java Excel Instagram
Facebook Wikipedia Shakespeare Netflix Tesla Amazon Docker HTML CSS SQL JSON algorithm database compiler server browser
keyboard software website password email spreadsheet equation integral matrix triangle fraction derivative vector
""".split()

_PEOPLE = """Albert Einstein|Isaac Newton|Napoleon|Shakespeare|Mozart|Beethoven|Julius Caesar|Leonardo da Vinci|Marie
Curie|Charles Darwin|Elon Musk|Taylor Swift|Barack Obama|Donald Trump|Cleopatra|Gandhi|Plato|Aristotle|Bill Gates|Steve
Jobs|Picasso|Goethe|Nelson Mandela|Queen Elizabeth|Alan Turing|Ada Lovelace|Messi|Ronaldo|Bach|Michael Jackson|the
president|the pope|the king|the queen|Harry Potter|Batman|Jesus|Buddha|Kant|Marx|Galileo|Columbus|Madonna|Joe Biden"""

_SYLLABLES = "ba ble co cra da den do el er fa fi ga gra ha in ja ka la lin lo ma men mi na no or pa pen pro qua ra re ri "
_SYLLABLES += "sa sen shi so sta ta ten ti tra u va ver vi wa xe yo za ing tion ment ous al ity ism"


def word(kind: str, rng: random.Random) -> str:
    """A word of the kind that a pattern names in braces."""
    return _KINDS[kind](rng)


def _thing(rng: random.Random) -> str:
    """A thing that the model knows nothing of; often a word that does not exist, so that no list can be learned."""
    kind = rng.random()
    if kind < 0.4:
        return _invented(rng)
    text = rng.choice(_THINGS)
    return text + "s" if kind > 0.85 and text.islower() and text[-1] not in "sy" else text


def _invented(rng: random.Random) -> str:
    text = "".join(rng.choice(_SYLLABLES.split()) for _ in range(rng.randint(2, 4)))
    return text.capitalize() if rng.random() < 0.3 else text


def _noise(rng: random.Random) -> str:
    """Letters as they come when somebody drums on the keys."""
    letters = rng.choice(("abcdefghijklmnopqrstuvwxyz", "asdfghjkl", "qwertyuiop", "bcdfghjklmnpqrstvwxz", "0123456789"))
    return "".join(rng.choice(letters) for _ in range(rng.randint(3, 10)))


def _number(rng: random.Random) -> str:
    return str(rng.choice((rng.randint(11, 99), rng.randint(100, 999), rng.randint(1000, 999999))))


def _person(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return f"{rng.choice(NAMES)} {_invented(rng).capitalize()}"
    return rng.choice(_PEOPLE.replace("\n", " ").split("|"))


_KINDS = {
    "thing": _thing,
    "who": _person,
    "invented": _invented,
    "big": _number,
    "noise": _noise,
    "animal": lambda rng: rng.choice(ANIMALS),
    "name": lambda rng: rng.choice(NAMES),
}
