"""Telling listeners of changes."""

import asyncio
import gc
import unittest
from dataclasses import replace

from aind_data_transfer_service.jobs.broadcast import Feed
from aind_data_transfer_service.jobs.states import JobState
from tests.support import slow
from tests.support.jobs import a_job


class FeedTest(unittest.IsolatedAsyncioTestCase):
    """Everyone hears everything, of each job the latest."""

    async def test_every_listener_hears_every_job_from_the_moment_of_subscribing(self):
        feed = Feed()
        feed.publish([a_job()])
        first, second = feed.subscribe(), feed.subscribe()
        jobs = [a_job(), a_job()]
        feed.publish(jobs)
        for listener in (first, second):
            self.assertEqual([await anext(listener), await anext(listener)], jobs)

    async def test_other_news_is_a_word_that_is_heard_once(self):
        feed = Feed()
        listener = feed.subscribe()
        job = a_job()
        feed.publish([job])
        feed.mention("others")
        feed.mention("others")
        heard = {str(await anext(listener)), str(await anext(listener))}
        self.assertEqual({"others", str(job)}, heard)
        feed.close()
        feed.mention("others")
        self.assertEqual([], [news async for news in listener])

    async def test_a_listener_waits_for_news(self):
        feed = Feed()
        listener = feed.subscribe()
        waiting = asyncio.create_task(anext(listener))
        await asyncio.sleep(0)
        job = a_job()
        feed.publish([job])
        self.assertEqual(await waiting, job)

    async def test_a_slow_listener_hears_the_latest_of_each_job(self):
        feed = Feed()
        listener = feed.subscribe()
        job, other = a_job(), a_job()
        running = replace(job, state=JobState.RUNNING)
        feed.publish([job, other, running])
        self.assertEqual([await anext(listener), await anext(listener)], [running, other])

    async def test_a_listener_that_is_far_behind_is_let_go(self):
        feed = Feed(backlog=2)
        listener = feed.subscribe()
        feed.publish([a_job() for _ in range(5)])
        self.assertEqual([job async for job in listener], [])

    async def test_closing_ends_listening_after_what_was_published(self):
        feed = Feed()
        listener = feed.subscribe()
        job = a_job()
        feed.publish([job])
        feed.close()
        feed.publish([a_job()])
        self.assertEqual([job async for job in listener], [job])

    @slow
    async def test_a_listener_that_went_away_is_forgotten(self):
        feed = Feed()
        listener = feed.subscribe()
        kept = feed.subscribe()
        del listener
        gc.collect()
        self.assertEqual(len(feed), 1)
        del kept
