"""What a community's name says about its posts: topic and language. A rule of ours, not part of the data set."""

from __future__ import annotations

from typing import Final

_COMMUNITIES_BY_TOPIC: Final[dict[str, str]] = {
    "programming": "programming Python javascript webdev netsec linux sysadmin MachineLearning",
    "technology": "technology hardware apple iphone Android buildapc privacy",
    "science": "science math chemistry biology medicine psychology linguistics askscience explainlikeimfive",
    "space": "space",
    "business": "business startups Economics Entrepreneur investing personalfinance energy",
    "news": "worldnews politics environment TrueReddit DepthHub",
    "places": "de india canada japan france australia europe mexico travel",
    "learning": "teaching education history philosophy languagelearning LearnJapanese books writing",
    "food": "Cooking food",
    "sport": "soccer hockey nba nfl running Fitness bicycling",
    "screen": "movies television anime startrek StarWars comics",
    "games": "gaming Games boardgames chess lego",
    "music": "Music",
    "art": "photography itookapicture Art",
    "home": "DIY gardening cars motorcycles",
    "animals": "dogs cats aww",
    "life": "AskReddit WTF todayilearned relationships LifeProTips",
    "belief": "Buddhism Christianity atheism",
}
_TOPIC_BY_COMMUNITY: Final = {
    community: topic for topic, names in _COMMUNITIES_BY_TOPIC.items() for community in names.split()
}
_LANGUAGE_BY_COMMUNITY: Final = {"de": "de", "france": "fr", "mexico": "es"}


def topic_of(community: str) -> str:
    """Return the topic of a community; one that we do not know is its own topic."""
    return _TOPIC_BY_COMMUNITY.get(community, community.lower())


def language_of(community: str) -> str:
    """Return the language that a community mostly writes in."""
    return _LANGUAGE_BY_COMMUNITY.get(community, "en")
