"""What people call the columns of their tables, whatever the case, accents and spaces, in six languages."""

import re
import unicodedata
from enum import Enum
from functools import cache
from typing import Final


class Role(Enum):
    """What a column holds, as its heading tells."""

    CLASS = "class"
    DESCRIPTOR = "descriptor"
    DESCRIPTORS = "descriptors"  # several in a cell
    IMAGE = "image"  # or the path of one
    OTHER = "other"  # surely a heading, of something else


_NAMES: Final = {
    Role.CLASS: (
        "class classes class_name class_names class_label label labels label_name label_names name names"
        " species species_name common_name english_name vernacular_name category categories"
        " category_name concept"
        " klasse klassen klassenname kategorie bezeichnung artname art deutscher_name naam soort"
        " classe classes nom noms nom_commun nom_français nom_vernaculaire catégorie espèce étiquette"
        " clase clases nombre nombres nombre_común especie categoría etiqueta nome nomi nome_comune specie"
    ),
    Role.DESCRIPTOR: (
        "descriptor description feature mark field_mark attribute trait characteristic property"
        " visual_feature visual_description merkmal beschreibung eigenschaft attribut kenmerk"
        " descripteur caractéristique descripción característica rasgo atributo descrizione caratteristica"
    ),
    Role.DESCRIPTORS: (
        "descriptors descriptions features marks field_marks attributes traits characteristics properties"
        " visual_features merkmale beschreibungen eigenschaften attribute kenmerken descripteurs"
        " caractéristiques descriptores características rasgos atributos caratteristiche"
    ),
    Role.IMAGE: (
        "image images path file files file_name filepath file_path image_path image_name image_file img"
        " img_path img_name photo photos picture pictures bild bilder bilddatei datei dateiname pfad fichier"
        " chemin archivo imagen ruta"
    ),
    Role.OTHER: (
        "picture_url image_url url link split subset partition fold id ids class_id category_id label_id"
        " index idx no nr number count n latin_name latin scientific_name scientific binomial genus family"
        " order kingdom phylum site location place habitat region country date year note notes comment"
        " comments remark source author code wnid synset supercategory anzahl nummer ort fundort datum land"
        " bemerkung bemerkungen lateinischer_name wissenschaftlicher_name nom_latin nom_scientifique numéro"
        " lieu nombre_científico número lugar fecha"
    ),
}
_LAST_WORDS: Final = frozenset(("name", "names", "class", "species", "label", "labels", "nom", "nombre"))
_THINGS: Final = frozenset(("art", "concept", "soort"))  # names of classes, where no other column is beside


def folded(heading: str) -> str:
    """Return a heading without what its spellings differ in: "Common_Name" and "common name" are equal."""
    plain = unicodedata.normalize("NFKD", heading.casefold())
    return "".join(character for character in plain if character.isalnum())


_ROLES: Final = {
    folded(name): role for role in reversed(Role) for name in _NAMES[role].split()
}  # the first role wins


@cache
def role(heading: str) -> Role | None:
    """Return what a column of this heading holds, None for words that may be a heading or not.

    "Feature 2" is as "feature", but "class 2" is a class; of "Bird name (IOC)" it is only known that it is a
    heading.
    """
    if len(heading) > 80:
        return None
    name = folded(heading)
    if known := _ROLES.get(name):
        return known
    numbered = _ROLES.get(name.rstrip("0123456789"))
    if numbered in (Role.DESCRIPTOR, Role.DESCRIPTORS):
        return numbered
    plain = re.sub(r"[(\[].*", "", heading)
    words = re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain))
    if (len(words) > 1 or plain != heading) and words and words[-1].casefold() in _LAST_WORDS:
        return Role.OTHER
    return Role.OTHER if re.sub(r"[#№\s]", "", heading) == "" and heading.strip() else None


def heads_a_list(line: str) -> bool:
    """Whether the first line of a list of names is its heading rather than a name."""
    if re.fullmatch(r"[\w\s()/.,-]+", line) is None:
        return False
    meaning = role(line)
    if meaning is Role.CLASS:
        return folded(line) not in _THINGS
    return meaning in {Role.IMAGE, Role.OTHER} and len(re.findall(r"\w+", line)) > 1
